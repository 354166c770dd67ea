"""The card that the arms see as their first: what CUDA_VISIBLE_DEVICES names, and its handles in NVML.

Arms get CUDA_DEVICE_ORDER=PCI_BUS_ID unless the user set it: CUDA then counts cards as NVML and nvidia-smi do. Where
the card cannot be told for sure it is not available; another one is never described in its place.
"""

import os
import re
from dataclasses import dataclass

from core.errors import UserError

VISIBLE, ORDER, AS_NVML = "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "PCI_BUS_ID"
NUMBER = re.compile("[0-9]{1,4}")
UUID = re.compile("(GPU|MIG)-[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


class NoCard(Exception):
    """Which card it is cannot be told; str() says why, in one line."""


@dataclass(frozen=True)
class Card:
    """NVML's handles: of the `part` that arms run on, a card or a MIG instance, and of the `whole` card it is on."""

    part: object
    whole: object


def counted_as_nvml():
    """What the environment of every arm begins with."""
    return {ORDER: os.environ.get(ORDER, AS_NVML)}


def seen_by(environments):
    """The environment that decides the arms' card, where `environments` are what is added for each framework.

    Raises UserError where the frameworks would not run on the same card.
    """
    merged = [{**os.environ, **counted_as_nvml(), **added} for added in environments or [{}]]
    if len({(each.get(VISIBLE), each[ORDER]) for each in merged}) > 1:
        raise UserError(f"the frameworks would run on different cards: set {VISIBLE} and {ORDER} for the whole "
                        "command, or the same in --torch-env and --paddle-env")
    return merged[0]


def first_named(environment=None):
    """How the first visible card is named: a number as NVML counts, "GPU-…" (the beginning of a UUID) or "MIG-…"."""
    environment = os.environ if environment is None else environment
    value = environment.get(VISIBLE)
    first = "0" if value is None else value.partition(",")[0].strip()
    if NUMBER.fullmatch(first):
        if environment.get(ORDER, AS_NVML) != AS_NVML:
            raise NoCard(f"{ORDER} lets CUDA count the cards in an order of its own: leave it out, or name the card by "
                         f"its UUID in {VISIBLE}")
    elif not first.startswith(("GPU-", "MIG-")):
        raise NoCard(f"{VISIBLE} shows no card")
    return first


def only_match(name, uuids):
    """The position of the one UUID that begins with `name`."""
    matches = [position for position, uuid in enumerate(uuids) if uuid.startswith(name)]
    if len(matches) != 1:
        raise NoCard(f"{len(matches)} cards have a UUID that begins as {VISIBLE} says")
    return matches[0]


def find(nvml, environment=None):
    """The Card, by the module pynvml after nvmlInit; raises NoCard or NVMLError."""
    name = first_named(environment)
    if NUMBER.fullmatch(name):
        handle = nvml.nvmlDeviceGetHandleByIndex(int(name))
    elif name.startswith("MIG-") or UUID.fullmatch(name):
        handle = nvml.nvmlDeviceGetHandleByUUID(name)
    else:
        handle = _beginning_with(nvml, name)
    if name.startswith("MIG-"):
        return Card(handle, nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(handle))
    return Card(_instance_of(nvml, handle) if _is_divided(nvml, handle) else handle, handle)


def _beginning_with(nvml, name):
    """The one card whose UUID begins with `name`."""
    try:
        handles = [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())]
        uuids = [text(nvml.nvmlDeviceGetUUID(handle)) for handle in handles]
    except AttributeError:
        raise NoCard(f"this NVML lists no cards: write the whole UUID into {VISIBLE}") from None
    return handles[only_match(name, uuids)]


def _is_divided(nvml, handle):
    """Whether the card is in MIG mode: CUDA then sees an instance of it, never all of it."""
    try:
        return bool(nvml.nvmlDeviceGetMigMode(handle)[0])
    except (nvml.NVMLError, AttributeError):  # cards and drivers without MIG
        return False


def _instance_of(nvml, card_handle):
    """The one MIG instance of a card."""
    instances = []
    for i in range(nvml.nvmlDeviceGetMaxMigDeviceCount(card_handle)):
        try:
            instances.append(nvml.nvmlDeviceGetMigDeviceHandleByIndex(card_handle, i))
        except nvml.NVMLError:
            continue
    if len(instances) != 1:
        raise NoCard(f"the card has {len(instances)} MIG instances: name one in {VISIBLE}")
    return instances[0]


def text(value):
    """A text of NVML's, which older packages give as bytes."""
    return value.decode() if isinstance(value, bytes) else value
