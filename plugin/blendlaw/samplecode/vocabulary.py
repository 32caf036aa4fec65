"""The words that generated programs name things by."""

from __future__ import annotations


def _words(text: str) -> list[str]:
    return text.split()


# No word is a keyword of one of the languages, alone or before another.
VERBS = _words(
    """
    add apply build check clean collect compute count create fetch filter find format load merge
    move parse print read refresh remove rename reset save scale select send shift sort split
    store sum trim update validate write
    """
)
NOUNS = _words(
    """
    account address amount angle answer archive area balance batch block border bucket buffer
    button cache chain channel client cluster color column command counter cursor customer delay
    device distance document edge entry factor feature folder frame graph group header height
    image invoice item job key label layer level limit line location margin message meter model
    node number offset order owner page parent path payment person pixel point policy port price
    product profile project query queue rank rate record region report request result role room
    route rule sample schedule score section segment sender sensor session shape signal size
    slot source speed stage station stock student sum table target task temperature ticket token
    total tree user vector version vertex view volume wallet weight width window worker zone
    """
)
ADJECTIVES = _words(
    """
    active average best busy closed cold current daily deep empty fast final first fresh full
    global hidden initial inner large last latest local longest main minimum missing new next
    old open outer pending previous primary raw ready recent safe second short single small
    sorted stable upper valid visible warm weekly
    """
)
