"""The loop: the names, the order of calls and the lines of Megatron-LM's, in little."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from megatron.core import parallel_state
from megatron.core.num_microbatches_calculator import (
    get_num_microbatches,
    init_num_microbatches_calculator,
)
from megatron.core.rerun_state_machine import (
    RerunDataIterator,
    RerunMode,
    get_rerun_state_machine,
    initialize_rerun_state_machine,
)
from megatron.core.tensor_parallel import model_parallel_cuda_manual_seed
from megatron.training import arguments
from megatron.training.global_vars import get_args, set_args

from blendlaw.plan import LanguagePlan, Plan, Run, Stage
from blendlaw.trainer_plan import Shape, Trainer
from blendlaw_hooks import trainer_checkpoint
from blendlaw_hooks.trainer_data import Order
from blendlaw_hooks.trainer_model import Model, build_model


def pretrain(
    train_valid_test_dataset_provider: Any,
    model_provider: Any,
    model_type: Any,
    forward_step_func: Any,
) -> None:
    args = arguments.parse()
    set_args(args)
    torch.distributed.init_process_group("nccl")
    parallel_state.initialize_model_parallel()
    model_parallel_cuda_manual_seed(1)
    data_ranks = parallel_state.get_data_parallel_world_size()
    rank = torch.distributed.get_rank()
    batch, micro = args.global_batch_size, args.micro_batch_size
    init_num_microbatches_calculator(rank, None, batch, micro, data_ranks, False)
    initialize_rerun_state_machine(mode=RerunMode.DISABLED)
    model = setup_model_and_optimizer(model_provider, model_type)
    evaluations = args.train_iters // args.eval_interval + 1
    sizes = (args.train_iters * batch, evaluations * args.eval_iters * batch, 0)
    train, valid, _ = train_valid_test_dataset_provider(sizes)
    done = args.consumed_train_samples
    batches = RerunDataIterator(loader(train, done, sizes[0]))
    seen = args.iteration // args.eval_interval * args.eval_iters * batch
    valid_batches = loader(valid, seen, sizes[1])
    _train(forward_step_func, model, batches, valid_batches)
    prefix = f"iteration {args.iteration} on validation set"
    if args.iteration == args.train_iters:
        evaluate_and_print_results(prefix, forward_step_func, valid_batches, model, args.iteration)


def setup_model_and_optimizer(model_provider: Any, model_type: Any) -> Model:
    args = get_args()
    shape = Shape(
        args.num_layers, args.hidden_size, args.num_attention_heads, 96, args.vocab_size + 1
    )
    trainer = Trainer(
        micro_batch=args.micro_batch_size,
        global_batch=args.global_batch_size,
        learning_rate=args.lr,
    )
    tokens = float(args.seq_length)
    plan = Plan(
        Run(1.0, tokens, args.seq_length), {"any": LanguagePlan()}, (Stage("any", tokens),),
        trainer=trainer,
    )  # fmt: skip
    model = build_model(plan, shape, torch.device("cpu"), args.train_iters)
    found = trainer_checkpoint.newest(Path(args.load)) if args.load else 0
    if found:
        trainer_checkpoint.load(Path(args.load), found, model)
        args.iteration, args.consumed_train_samples = found, found * args.global_batch_size
    return model


def loader(dataset: Any, first: int, end: int) -> Any:
    args = get_args()
    order = Order(first, end, args.micro_batch_size)
    workers = args.num_workers
    return iter(torch.utils.data.DataLoader(dataset, batch_sampler=order, num_workers=workers))


def _train(forward_step: Any, model: Model, batches: Any, valid_batches: Any) -> None:
    args, machine = get_args(), get_rerun_state_machine()
    losses: list[float] = []
    while args.iteration < args.train_iters:
        args.curr_iteration = args.iteration
        while machine.should_run_forward_backward(batches):
            told: list[torch.Tensor] = []
            model.step(_listening(forward_step, told), batches, get_num_microbatches())
        args.iteration += 1
        args.consumed_train_samples += args.global_batch_size
        losses.append(_mean(told))
        at = args.iteration
        if at % args.log_interval == 0:
            mean = sum(losses) / len(losses)
            print(f" iteration {at:8}/{args.train_iters:8} | lm loss: {mean:.6E} |", flush=True)
            losses = []
        if at % args.eval_interval == 0:
            evaluate_and_print_results(f"iteration {at}", forward_step, valid_batches, model, at)
        if args.save and at % args.save_interval == 0:
            save_checkpoint(at, model)
        if args.exit_interval and at % args.exit_interval == 0:
            return


def evaluate_and_print_results(
    prefix: str, forward_step_func: Any, data_iterator: Any, model: Model, iteration: int
) -> None:
    told: list[torch.Tensor] = []
    count = get_args().eval_iters * get_num_microbatches()
    model.evaluate(_listening(forward_step_func, told), data_iterator, count)
    print(f" validation loss at {prefix} | lm loss value: {_mean(told):.6E} |", flush=True)


def save_checkpoint(iteration: int, model: Model) -> None:
    folder = Path(get_args().save)
    folder.mkdir(exist_ok=True)
    trainer_checkpoint.save(folder, iteration, model)


def _listening(forward_step: Any, told: list[torch.Tensor]) -> Any:
    """The forward step; what its loss function reports is told."""

    def listened(data: Any, model: Any) -> Any:
        output, loss_func = forward_step(data, model)

        def reported(losses: torch.Tensor) -> Any:
            result = loss_func(losses)
            told.append(result[2]["lm loss"].detach())
            return result

        return output, reported

    return listened


def _mean(told: list[torch.Tensor]) -> float:
    total = torch.stack(told).sum(0)
    torch.distributed.all_reduce(total)
    return float(total[0] / total[1])
