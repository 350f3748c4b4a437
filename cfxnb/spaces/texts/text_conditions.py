"""What all conditions that are texts share."""

import contextlib
import math
import threading
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cfxnb.core import validate
from cfxnb.core.modules import first_time
from cfxnb.spaces.conditions import checked_template, prompts, unknown_conditions, warn_of_tokens

LONGEST = 4096  # tokens of a text; the longest known model takes 512
_MOVING = threading.RLock()  # one thread at a time moves encoders between devices
CPU = torch.device("cpu")


class TextEncoder(nn.Module):
    """A tokenizer and a text encoder of transformers.

    Args:
        tokenizer: turns texts into tokens.
        net: turns tokens into embeddings, such as a ``CLIPTextModel`` or a ``T5EncoderModel``.
        length: number of tokens to which shorter texts are padded, and to which longer texts are
            cut.
    """

    def __init__(self, tokenizer: Any, net: Any, length: int) -> None:
        super().__init__()
        self.tokenizer: Any = validate.function(tokenizer, "tokenizer")
        self.net: Any = validate.instance(net, nn.Module, "net", "a torch.nn.Module")
        self.length = validate.count(length, "length", 2, LONGEST)

    @property
    def dims(self) -> int:
        """Numbers per token."""
        return self.net.config.hidden_size

    def read(self, text: str, length: int | None = None) -> tuple[Tensor, Tensor]:
        """Return the tokens of a text and the mask that is 1 for its words, int64 (1, length)."""
        words = self.tokenizer(
            [text],
            padding="max_length",
            max_length=length or self.length,
            truncation=True,
            padding_side="right",
            return_attention_mask=True,
            return_tensors="pt",
        )
        device = next(self.net.parameters()).device
        return words.input_ids.to(device), words.attention_mask.to(device)

    def forward(self, text: str, **kwargs: Any) -> Any:
        """Return the output of the network for one text, without a mask."""
        return self.net(self.read(text)[0], **kwargs)

    def masked(self, text: str, length: int | None = None) -> tuple[Tensor, Tensor]:
        """Return the embedding of each token (1, length, dims), and the mask (1, length).

        The network ignores tokens that only pad the text.
        """
        tokens, mask = self.read(text, length)
        vectors = self.net(tokens, attention_mask=mask)[0]
        return vectors, mask.to(vectors.dtype)


class TextConditions(nn.Module):
    """Conditions that are texts. Base class of the conditions of all families.

    The embeddings of a text are packed into one row of numbers, so that methods can select and
    repeat the conditions of their samples like any other tensor. Texts are encoded one at a time,
    so that the texts of other samples never matter.

    Args:
        encoders: the text encoders.
        template: text in which the name of a class replaces "{}".
        negative_prompt: the text that the condition None stands for. Default: the one that the
            pipeline of diffusers uses, which is the empty text or, for SDXL, zeros.
        distilled: the reason why the network has no real unconditional prediction, for a warning,
            or None.
        offload: whether the encoders stay on the CPU while the network runs elsewhere. They are
            moved to the device of the network only to encode a text that is new. The embeddings of
            known texts are kept.

    A family defines ``shapes``, ``embed`` and ``predict_noise``.
    """

    anchor: Tensor
    encoders: Any  # a ModuleList of TextEncoder
    #: A prompt is read in lower case by families that were trained so.
    lower_case = False

    def __init__(
        self,
        encoders: Sequence[TextEncoder],
        *,
        template: str = "a photo of a {}.",
        negative_prompt: str | None = None,
        distilled: str | None = None,
        offload: bool = False,
    ) -> None:
        super().__init__()
        for each in encoders:
            validate.instance(each, TextEncoder, "encoders", "TextEncoder")
        self.encoders = nn.ModuleList(encoders)
        self.template = checked_template(template)
        self.negative_prompt = validate.optional(_text, negative_prompt, "negative_prompt")
        self.distilled = validate.optional(_text, distilled, "distilled")
        self.offload = validate.flag(offload, "offload")
        # Moves with the space, also if the encoders stay on the CPU.
        self.register_buffer("anchor", torch.zeros(0), persistent=False)
        self._kept: dict[Any, Tensor] = {}

    # -- What a family defines

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """The shapes of the embeddings of one text."""
        raise NotImplementedError

    def embed(self, text: str) -> Sequence[Tensor]:
        """Return the embeddings of one text, in the order of ``shapes``."""
        raise NotImplementedError

    def embed_nothing(self) -> Sequence[Tensor]:
        """Return the embeddings that the condition None stands for."""
        return self.embed(self._cleaned(self.negative_prompt or ""))

    def predict_noise(self, net: Any, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        """Return the output of the network for noisy codes ``x`` at times ``t``, (b,)."""
        raise NotImplementedError

    # -- What all families share

    @torch.no_grad()
    def encode(self, conditions: Sequence[Any]) -> Tensor:
        """Return the packed embeddings of texts, (b, numbers).

        Raises:
            ValueError, TypeError: if there is no condition, or one is neither a text nor None.
        """
        conditions = validate.listed(conditions, "conditions", "texts")
        if not conditions:
            raise ValueError("conditions: expected at least one text, got none")
        prompts(conditions)
        if self.distilled and None in conditions and first_time("distilled"):
            warnings.warn(
                f"space: {self.distilled}. The prediction for "
                f"{self.negative_prompt or 'the empty text'!r:.60} stands in for the unconditional "
                "prediction, which this method needs. Results depend on it more than with a model "
                "that was trained without a condition, too; compare with such a model, or use "
                "cfx.flow_counterfactual or cfx.latent_attack, which don't need it",
                stacklevel=4,
            )
        distinct = list(dict.fromkeys(conditions))  # a batch often has only one text
        rows = torch.stack([self._row(each) for each in distinct])
        return rows[[distinct.index(each) for each in conditions]]

    def unpack(self, condition: Tensor, like: Any) -> list[Tensor]:
        """Return the embeddings, (b, ...) each, in the dtype of the network ``like``."""
        sizes = [math.prod(shape) for shape in self.shapes]
        parts = condition.to(like.dtype).split(sizes, 1)
        return [part.view(-1, *shape) for part, shape in zip(parts, self.shapes, strict=True)]

    def check(self, conditions: Sequence[Any]) -> None:
        """Warn if the texts of two classes become the same tokens, or if a text is too long.

        Args:
            conditions: the condition of each class.
        """
        readers = [(each.tokenizer, each.length) for each in self.encoders]
        warn_of_tokens([self._cleaned(text) for text in prompts(conditions)], readers, stacklevel=5)

    def defaults(self, n_classes: int, class_names: Sequence[str] | None) -> list[Any]:
        """Return one text per class: the template with the name of the class."""
        if class_names is None or len(class_names) != n_classes:
            raise unknown_conditions(n_classes, "texts, and the classifier has no class names")
        return [self.template.format(name) for name in class_names]

    def _cleaned(self, text: str) -> str:
        return text.lower().strip() if self.lower_case else text

    def _row(self, each: str | None) -> Tensor:
        """Return the packed embeddings of one condition, (numbers,)."""
        device = self.anchor.device
        if not self.offload:
            return self._packed(each)
        # Weights that were changed in place, such as by a LoRA, have other versions.
        stamp = sum(p._version for p in self.encoders.parameters())
        key = (each, self.negative_prompt, stamp)
        if key not in self._kept:
            with self._encoders_on(device):
                self._kept[key] = self._packed(each).to(CPU)
        return self._kept[key].to(device)

    def _packed(self, each: str | None) -> Tensor:
        found = self.embed_nothing() if each is None else self.embed(self._cleaned(each))
        return torch.cat([part.reshape(-1) for part in found])

    @contextlib.contextmanager
    def _encoders_on(self, device: torch.device) -> Iterator[None]:
        """Return a context in which the encoders are on ``device``, if its memory is enough."""
        with _MOVING:
            try:
                if device != CPU:
                    try:
                        self.encoders.to(device)
                    except torch.OutOfMemoryError:
                        self.encoders.to(CPU)
                yield
            finally:
                if device != CPU:
                    self.encoders.to(CPU)

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        self._kept.clear()
        return super()._apply(fn, recurse and not self.offload)


def _text(value: Any, name: str) -> str:
    return validate.instance(value, str, name, "a text")
