"""Texts for Sana (Xie et al., 2024)."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from cfxnb.core import validate
from cfxnb.spaces.texts.text_conditions import TextConditions, TextEncoder


class SanaConditions(TextConditions):
    """Conditions of Sana: the tokens of a language model, and the mask of those of the text.

    Sana puts an instruction before each prompt, which asks the language model to describe the image
    in more detail. Of the tokens of instruction and prompt, the network gets the first token, and
    as many of the last tokens as a prompt without instruction has.

    Args:
        encoders: a ``Gemma2Model``.
        instruction: text before each prompt. "" stands for no instruction. The condition None never
            has an instruction.

    For the other arguments see ``TextConditions``.
    """

    lower_case = True

    def __init__(
        self, encoders: Sequence[TextEncoder], *, instruction: str = "", **kwargs: Any
    ) -> None:
        super().__init__(encoders, **kwargs)
        self.instruction = validate.instance(instruction, str, "instruction", "a text")

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        (gemma,) = self.encoders
        return [(gemma.length, gemma.dims), (gemma.length,)]

    def embed(self, text: str) -> Sequence[Tensor]:
        (gemma,) = self.encoders
        if not self.instruction:
            return gemma.masked(text)
        # Without the first token, which is counted already, and one for the text itself.
        own = len(gemma.tokenizer.encode(self.instruction)) - 2
        tokens, mask = gemma.masked(self.instruction + text, own + gemma.length)
        kept = [0, *range(1 - gemma.length, 0)]
        return tokens[:, kept], mask[:, kept]

    def embed_nothing(self) -> Sequence[Tensor]:
        return self.encoders[0].masked(self._cleaned(self.negative_prompt or ""))

    def predict_noise(self, net: Any, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        tokens, mask = self.unpack(condition, net)
        return net(
            x.to(net.dtype),
            encoder_hidden_states=tokens,
            encoder_attention_mask=mask,
            timestep=t * net.config.timestep_scale,
        ).sample
