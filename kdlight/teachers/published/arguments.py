"""From a recorded constructor call to a network of kdlight with the file's weights."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from torch import Tensor, nn

from kdlight.errors import InputError
from kdlight.storage.files import load_weights
from kdlight.storage.persistent import StoredModule

Network = TypeVar("Network", bound=nn.Module)


def recorded(module: StoredModule, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of a constructor by name, those that were left out included.

    Args:
        module: What was constructed.
        defaults: All its parameters in order; an Ellipsis where there is no default.

    Raises:
        InputError: An argument is missing, or not one of these.
    """
    given = {**dict(zip(defaults, module.positional, strict=False)), **module.arguments}
    foreign = sorted(str(name) for name in set(given) - set(defaults))
    if foreign or len(module.positional) > len(defaults):
        raise InputError(f"{module.class_name}: unknown setting {', '.join(foreign) or 'by place'}")
    found = {**defaults, **given}
    missing = [name for name, value in found.items() if value is ...]
    if missing:
        raise InputError(f"{module.class_name}: expected {', '.join(missing)}, found nothing")
    return found


def expect(settings: Mapping[str, Any], name: str, *allowed: Any) -> None:
    """Raise :class:`InputError` unless a setting is one that kdlight's network has."""
    if settings[name] not in allowed:
        known = " or ".join(map(str, allowed))
        raise InputError(f"{name}: expected {known}, found {settings[name]}")


def number(module: StoredModule, name: str) -> float:
    """A number among a module's attributes.

    Raises:
        InputError: There is none of that name.
    """
    value = module.state.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InputError(f"{module.class_name}: {name}: expected a number, found {value!r}")
    return float(value)


def build(
    make: Callable[..., Network], settings: Mapping[str, Any], tensors: dict[str, Tensor]
) -> Network:
    """A network with weights, in float32 and evaluation mode.

    Args:
        make: Its class.
        settings: Arguments.
        tensors: Weights under kdlight's names.

    Raises:
        InputError: The settings make no network, or one that the weights do not fit.
    """
    try:
        network = make(**settings)
    except InputError:
        raise
    except (TypeError, ValueError, RuntimeError, ArithmeticError, LookupError, MemoryError):
        raise InputError(f"the settings {dict(settings)} make no network") from None
    load_weights(network, {name: value.float() for name, value in tensors.items()}, "ema")
    return network.eval()
