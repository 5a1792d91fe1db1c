"""What the verbs of a stream have in common: each declares a step behind it."""

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from penstock.agents import steps as s
from penstock.agents.failing.policies import Policy
from penstock.agents.location import caller

if TYPE_CHECKING:
    from penstock.pipelines.group import Group

K = TypeVar("K")
V = TypeVar("V")
Made = TypeVar("Made", bound=s.Step)


class Verbs(Generic[K, V]):
    """A stream, as far as its verbs go.

    Attributes:
        group: whose it is.
        step: what its records come from.
    """

    group: "Group"
    step: s.Step
    _errors: Policy

    def _then(self, cls: type[Made], label: str, *, key: Any = None, value: Any = None, **fields: Any) -> Made:
        """A step behind this one, added to the group: of the same types and policy unless told otherwise."""
        step = cls(
            inputs=fields.pop("inputs", (self.step,)),
            location=caller(),
            key_type=self.step.key_type if key is None else key,
            value_type=self.step.value_type if value is None else value,
            label=label,
            errors=self._errors,
            **fields,
        )
        self.group.add(step)
        return step
