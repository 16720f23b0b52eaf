"""What is computed: the shape, cell and number format of one recurrent network.

Nothing here imports torch, so that a problem can be planned, stored and shown anywhere.
"""

from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, Self

from lstm_kernels.cells import CELLS, Cell
from lstm_kernels.cells.code.trace import mixes_batch
from lstm_kernels.common.lengths import check_lengths, sequence_lengths
from lstm_kernels.names import check_name

PASSES = ("inference", "forward", "backward", "train")
DTYPE_BYTES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}
# Of float32: exact products, products on TF32 units, int8 weights for inference.
PRECISIONS = ("ieee", "tf32", "w8")

# Whole-sequence products of one pass, in units of one forward: the backward makes two for each
# of the forward's (one for the data, one for the weights).
FORWARDS_PER_PASS = {"inference": 1, "forward": 1, "backward": 2, "train": 3}


def activations_per_step(gates: int, pass_name: str) -> int:
    """About how many elements of [B, H] are read or written in a step, if I = H (docs/method.md).

    For an LSTM 6 in inference and 11 in a forward that saves: the gates' pre-activations, the
    states, and in a forward the gates once more; a backward reads those and writes as many
    gradients.
    """
    forward = 2 * gates + 3
    backward = 3 * gates + 4
    per_pass = {"inference": gates + 2, "forward": forward, "backward": backward}
    return per_pass.get(pass_name, forward + backward)


@dataclass(frozen=True)
class Problem:
    """One recurrent network over one batch of sequences; layout [T, B, I].

    `hidden_size` is H, `proj_size` is P or 0; the state h has P elements if P is set, else H.
    `heads` is N: W_hh is block-diagonal, and the gates of a unit see the H/N units of h that are
    in its own head. `lengths` names how many of the T steps each sequence has (see
    `lstm_kernels.common.lengths`).

    Raises:
        ValueError: one line naming the field, what was found and what is expected.
    """

    cell: str
    seq_len: int
    batch: int
    input_size: int
    hidden_size: int
    num_layers: int = 1
    bidirectional: bool = False
    bias: bool = True
    proj_size: int = 0
    dtype: str = "float32"
    precision: str = "ieee"
    lengths: str = "full"
    heads: int = 1

    def __post_init__(self) -> None:
        for field in ("seq_len", "batch", "input_size", "hidden_size", "num_layers"):
            check_size(field, getattr(self, field), minimum=1)
        check_size("proj_size", self.proj_size, minimum=0)
        check_size("heads", self.heads, minimum=1)
        check_name("cell", self.cell, CELLS)
        check_name("dtype", self.dtype, DTYPE_BYTES)
        check_name("precision", self.precision, PRECISIONS)
        check_lengths(self.lengths, self.seq_len)
        if self.proj_size and self.cell != "lstm":
            raise ValueError(
                f"proj_size={self.proj_size} with cell {self.cell!r}: only lstm has it"
            )
        if self.proj_size and self.proj_size >= self.hidden_size:
            raise ValueError(
                f"proj_size={self.proj_size}; expected less than hidden_size={self.hidden_size}"
            )
        if self.precision != "ieee" and self.dtype != "float32":
            raise ValueError(
                f"precision {self.precision!r} with dtype {self.dtype!r}: it is a float32 mode"
            )
        if self.heads > 1:
            self._check_heads()

    def _check_heads(self) -> None:
        heads, cell = self.heads, self.definition
        if self.hidden_size % heads:
            raise ValueError(
                f"heads={heads} does not divide hidden_size={self.hidden_size}; expected a divisor"
            )
        if self.proj_size:
            raise ValueError(
                f"heads={heads} with proj_size={self.proj_size}: a head is a group of units, and a "
                "projected h has no units; leave one out"
            )
        if cell.again or not cell.h_blocks:
            raise ValueError(
                f"heads={heads} with cell {self.cell!r}: expected a cell that makes one product "
                "of W_hh and h a step"
            )

    @property
    def definition(self) -> Cell:
        """The cell itself."""
        return CELLS[self.cell]

    @property
    def gates(self) -> int:
        """Blocks of H rows of w_ih: 4 for an LSTM."""
        return self.definition.x_blocks

    @property
    def h_gates(self) -> int:
        """Blocks of H rows of w_hh: the same number, but 0 if a unit sees only its own state."""
        return self.definition.h_blocks

    @property
    def has_cell_state(self) -> bool:
        """Whether the cell carries c in addition to h."""
        return self.definition.has_cell_state

    @property
    def mixes_batch(self) -> bool:
        """Whether a sequence's results depend on the others of its batch."""
        return mixes_batch(self.definition)

    @property
    def cell_state_size(self) -> int:
        """Elements of c for one sequence: H for every state other than h."""
        return self.definition.own_states * self.hidden_size

    @property
    def directions(self) -> int:
        """D: 2 if bidirectional, else 1."""
        return 2 if self.bidirectional else 1

    @property
    def state_size(self) -> int:
        """Elements of h for one sequence: P if projected, else H."""
        return self.proj_size or self.hidden_size

    @property
    def met_size(self) -> int:
        """Elements of h that a gate of a unit sees, the columns of w_hh: those of its head."""
        return self.state_size // self.heads

    @property
    def element_bytes(self) -> int:
        """Bytes of one element."""
        return DTYPE_BYTES[self.dtype]

    @property
    def weight_bytes(self) -> int:
        """Bytes of one element of a weight, as a step reads it."""
        return 1 if self.precision == "w8" else self.element_bytes

    @cached_property
    def valid_steps(self) -> int:
        """Steps over all sequences that are not padding: T*B where every length is full."""
        if self.lengths == "full":
            return self.seq_len * self.batch
        return sum(self.sequence_lengths())

    def sequence_lengths(self) -> tuple[int, ...]:
        """The B lengths, in batch order."""
        return sequence_lengths(self.lengths, self.seq_len, self.batch)

    def layer(self, index: int) -> "Problem":
        """The problem of one layer of the stack: its input is the layer below's output."""
        if self.num_layers == 1 and index == 0:
            return self  # a module asks at every call
        below = self.input_size if index == 0 else self.directions * self.state_size
        return replace(self, num_layers=1, input_size=below)

    def parameter_count(self) -> int:
        """Elements of all weights and biases."""
        return sum(self._layer_parameters(index) for index in range(self.num_layers))

    def flops(self, pass_name: str) -> int:
        """Floating point operations of the matrix products of one pass, padding not counted."""
        forward = 0
        for index in range(self.num_layers):
            layer = self.layer(index)
            products = self._products(layer.input_size)
            forward += 2 * self.directions * self.valid_steps * products
        return FORWARDS_PER_PASS[pass_name] * forward

    def bytes(self, pass_name: str) -> int:
        """About how many bytes one pass moves: weights once a product, activations a step."""
        weights = FORWARDS_PER_PASS[pass_name] * self.parameter_count()
        activations = (
            activations_per_step(self.gates, pass_name)
            * self.num_layers
            * self.directions
            * self.valid_steps
            * self.hidden_size
        )
        return weights * self.weight_bytes + activations * self.element_bytes

    def reason_against(self, pass_name: str) -> str | None:
        """Why this cannot be computed in a pass by any backend, or None."""
        if self.precision == "w8" and pass_name != "inference":
            return (
                f"precision 'w8' with pass {pass_name!r}: int8 weights have no gradients; "
                "expected pass 'inference'"
            )
        return None

    def label(self) -> str:
        """A short name: the sizes, then everything that is not the default."""
        parts = [self.cell, f"T{self.seq_len}", f"B{self.batch}"]
        if self.input_size != self.hidden_size:
            parts.append(f"I{self.input_size}")
        parts.append(f"H{self.hidden_size}")
        if self.num_layers > 1:
            parts.append(f"L{self.num_layers}")
        if self.bidirectional:
            parts.append("bidirectional")
        if self.proj_size:
            parts.append(f"P{self.proj_size}")
        if self.heads > 1:
            parts.append(f"heads{self.heads}")
        if not self.bias:
            parts.append("no-bias")
        parts.append(self.dtype)
        if self.precision != "ieee":
            parts.append(self.precision)
        if self.lengths != "full":
            parts.append(self.lengths)
        return " ".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """The problem as a record stores it.

        One head is not stored: so older records, and numbers drawn from seeds made of this,
        are the same as before there were heads.
        """
        fields = asdict(self)
        return fields if self.heads > 1 else {k: v for k, v in fields.items() if k != "heads"}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Self:
        """The problem a record stores; fields this version does not know are ignored."""
        return cls(**{name: fields[name] for name in cls.__dataclass_fields__ if name in fields})

    def _layer_parameters(self, index: int) -> int:
        layer = self.layer(index)
        blocks = len(self.definition.per_unit)
        blocks += self.gates + self.h_gates if self.bias else 0
        return self.directions * (self._products(layer.input_size) + blocks * self.hidden_size)

    def _products(self, input_size: int) -> int:
        """Elements of a direction's matrices."""
        rows = self.gates * input_size + self.h_gates * self.met_size
        return self.hidden_size * (rows + self.proj_size)


def check_size(field: str, value: object, minimum: int) -> None:
    """Refuse anything but a whole number from `minimum` on, by an error with the field's name."""
    if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
        raise ValueError(f"{field}={value!r}: expected a whole number from {minimum} on")
