"""Conditions of a diffusion model: attributes, classes, class embeddings and texts.

A ``Conditions`` object knows what a network can be conditioned on, and how to pass a condition to
the network.
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from cfxnb.core import validate


class Conditions(Protocol):
    """Turns conditions into the input of a network. The condition None asks for an unconditional
    prediction."""

    def encode(self, conditions: Sequence[Any]) -> Tensor:
        """Return the encoded conditions, a tensor with one row per condition."""

    def predict_noise(self, net: Any, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        """Return the prediction of the network for noisy latents ``x`` at times ``t``, (b,)."""

    def defaults(self, n_classes: int, class_names: Sequence[str] | None) -> list[Any]:
        """Return one condition per class of a classifier. Raise ValueError if the condition of a
        class is unknown."""


class AttributeConditions:
    """Conditions that are options of attributes, for a ``ConditionalUNet``.

    A condition is a dict such as ``{"smile": "smile", "gender": "male"}``. Attributes that the dict
    doesn't name are left open. A condition may also be the name of an option that only one
    attribute has. If the network has only one attribute, a condition may also be the number of an
    option.

    Args:
        options: dict from the name of each attribute to the names of its options.
    """

    def __init__(self, options: Mapping[str, Sequence[str]]) -> None:
        validate.instance(options, Mapping, "options", "a dict: attribute -> its options")
        self.options = {str(name): _texts(listed, name) for name, listed in options.items()}
        if not self.options:
            raise ValueError("options: expected at least one attribute, got none")

    def encode(self, conditions: Sequence[Any]) -> Tensor:
        """Return the index of the option of each attribute, int64 (b, attributes).

        An attribute with k options that is left open gets the index k.

        Raises:
            ValueError, TypeError: if an attribute or an option is unknown.
        """
        rows = [self._row(each) for each in validate.listed(conditions, "conditions", "conditions")]
        return torch.tensor(rows, dtype=torch.int64)

    def _row(self, each: Any) -> list[int]:
        condition = self._named(each)
        for name, option in condition.items():
            validate.choice(name, "conditions", self.options)
            validate.choice(option, f"conditions, {name}", self.options[name])
        return [
            o.index(condition[n]) if n in condition else len(o) for n, o in self.options.items()
        ]

    def _named(self, each: Any) -> Mapping[str, str]:
        if each is None:
            return {}
        if isinstance(each, Mapping):
            return each
        if isinstance(each, str):
            having = [name for name, options in self.options.items() if each in options]
            if len(having) != 1:
                raise ValueError(
                    f"conditions: expected attributes and options, such as "
                    f"{{{next(iter(self.options))!r}: ...}}, got {each!r}, which "
                    f"{' and '.join(having) or 'no attribute'} has"
                )
            return {having[0]: each}
        if len(self.options) > 1:
            raise TypeError(
                f"conditions: expected a dict over {list(self.options)} or an option's name, "
                f"got {validate.describe(each)}"
            )
        ((name, options),) = self.options.items()
        return {name: options[_number(each, len(options))]}

    def predict_noise(self, net: Any, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        return net(x, t, condition)

    def defaults(self, n_classes: int, class_names: Sequence[str] | None) -> list[Any]:
        """Return the class names. Each class name must be an option of exactly one attribute.

        If the classifier has no class names and the network has only one attribute, return the
        indices of this attribute's options.
        """
        options = list(self.options.values())
        having = [sum(name in listed for listed in options) for name in class_names or ()]
        if class_names and set(having) == {1}:
            return list(class_names)
        if not class_names and len(options) == 1 and len(options[0]) == n_classes:
            return list(range(n_classes))
        raise unknown_conditions(n_classes, f"attributes {self.options}")


class Unconditional:
    """Conditions of an unconditional network, such as most diffusion models of pixels."""

    unconditional = True

    def encode(self, conditions: Sequence[Any]) -> Tensor:
        """Return a zero for each condition, int64 (b,). Every condition must be None."""
        conditions = validate.listed(conditions, "conditions", "conditions")
        if given := [each for each in conditions if each is not None]:
            raise ValueError(
                f"conditions: expected None, because the network takes no condition, "
                f"got {validate.describe(given[0])}"
            )
        return torch.zeros(len(conditions), dtype=torch.int64)

    def predict_noise(self, net: Any, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        found = net(x, t)
        return getattr(found, "sample", found)

    def defaults(self, n_classes: int, class_names: Sequence[str] | None) -> list[Any]:
        raise ValueError(
            "conditions: expected a network that can be conditioned on the classes, got one that "
            "takes no condition; use cfx.maskdime, which needs none"
        )


class ClassConditions:
    """Conditions that are class numbers, for a network with one embedding per class.

    Args:
        n_classes: number of class embeddings of the network, including the embedding for "no
            class".
        null: whether the last embedding stands for "no class". Without an embedding for "no class",
            the network has no unconditional prediction, which most methods need.
        class_names: names of the classes, without "no class". A name may list synonyms, separated
            by commas, as in the names of ImageNet. A condition may then be a name. Default: the
            classes have no names.
    """

    def __init__(
        self, n_classes: int, null: bool = True, class_names: Sequence[str] | None = None
    ) -> None:
        self.null = validate.flag(null, "null")
        self.n_classes = validate.count(n_classes, "n_classes", 1 + self.null)
        self._named: dict[str, set[int]] = {}
        if class_names is None:
            return
        names = validate.listed(class_names, "class_names", "texts")
        texts = all(isinstance(each, str) for each in names)
        if len(names) != self.classes or not texts:
            raise ValueError(
                f"class_names: expected {self.classes} texts, got {validate.describe(class_names)}"
            )
        for number, name in enumerate(names):
            for each in (name, *name.split(",")):
                self._named.setdefault(each.strip().lower(), set()).add(number)

    @property
    def classes(self) -> int:
        """Number of classes, not counting the embedding for "no class"."""
        return self.n_classes - self.null

    def encode(self, conditions: Sequence[Any]) -> Tensor:
        """Return the index of the class embedding of each condition, int64 (b,).

        Raises:
            ValueError, TypeError: if a condition is neither None nor the number or name of a class.
        """
        conditions = validate.listed(conditions, "conditions", "classes")
        if not self.null and any(each is None for each in conditions):
            raise ValueError(
                "conditions: expected a model with an embedding for no class, which guidance "
                f"needs, got one with {self.n_classes} classes and null=False"
            )
        rows = [self.classes if each is None else self._row(each) for each in conditions]
        return torch.tensor(rows, dtype=torch.int64)

    def _row(self, condition: Any) -> int:
        if not isinstance(condition, str) or not self._named:
            return _number(condition, self.classes)
        numbers = self._named.get(condition.strip().lower(), set())
        if len(numbers) != 1:
            many = f"the classes {sorted(numbers)} have" if numbers else "no class has"
            raise ValueError(
                f"conditions: expected the name of one class, got {condition!r:.60}, which {many}"
            )
        return min(numbers)

    def predict_noise(self, net: Any, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        return net(x, t, class_labels=condition).sample

    def defaults(self, n_classes: int, class_names: Sequence[str] | None) -> list[Any]:
        """Return the class names, if each names one class of the model.

        Otherwise return the class numbers, if the model has as many classes as the classifier.
        """
        known = [self._named.get(str(name).strip().lower(), set()) for name in class_names or ()]
        if class_names and all(len(numbers) == 1 for numbers in known):
            return list(class_names)
        if n_classes != self.classes:
            raise unknown_conditions(n_classes, f"{self.classes} classes")
        return list(range(n_classes))


class EmbeddingConditions(ClassConditions, nn.Module):
    """Conditions that are class numbers, for a network with cross-attention to class embeddings.

    Class-conditional latent diffusion models (Rombach et al., 2022) have such cross-attention.

    Args:
        table: the class embeddings, (classes + 1, dims), or (classes, dims) if ``null`` is False.
        null: whether the last row of ``table`` stands for "no class".
    """

    table: Tensor

    def __init__(self, table: Tensor, null: bool = True) -> None:
        nn.Module.__init__(self)
        validate.code_like(table, "table")
        if table.ndim != 2:
            raise ValueError(f"table: expected shape (classes + 1, d), got {tuple(table.shape)}")
        if len(table) < 1 + validate.flag(null, "null"):
            raise ValueError(f"table: expected a row for each class, got {len(table)}")
        ClassConditions.__init__(self, len(table), null)
        self.register_buffer("table", table.detach().float())

    def predict_noise(self, net: Any, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        rows = self.table.to(x)[condition][:, None]
        return net(x, t, encoder_hidden_states=rows).sample


class PromptConditions(nn.Module):
    """Conditions that are texts, for a network with cross-attention to text embeddings.

    The condition None stands for the empty text.

    Args:
        tokenizer, encoder: tokenizer and text encoder of transformers.
        template: text in which the name of a class replaces "{}".
    """

    def __init__(self, tokenizer: Any, encoder: Any, template: str = "a photo of a {}.") -> None:
        super().__init__()
        self.tokenizer: Any = validate.optional(validate.function, tokenizer, "tokenizer")
        if encoder is not None:
            validate.instance(encoder, nn.Module, "encoder", "a torch.nn.Module")
        self.encoder: Any = encoder
        self.template = checked_template(template)

    @torch.no_grad()
    def encode(self, conditions: Sequence[Any]) -> Tensor:
        """Return the text embeddings, (b, tokens, dims).

        Raises:
            TypeError: if a condition is neither a text nor None.
        """
        conditions = validate.listed(conditions, "conditions", "texts")
        if not conditions:
            raise ValueError("conditions: expected at least one text, got none")
        texts = prompts(conditions)
        distinct = list(dict.fromkeys(texts))  # a batch often has only one text
        length = self.tokenizer.model_max_length
        words = self.tokenizer(
            distinct, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        )
        device = next(self.encoder.parameters()).device
        vectors = self.encoder(words.input_ids.to(device))[0]
        return vectors[[distinct.index(text) for text in texts]]

    def check(self, conditions: Sequence[Any]) -> None:
        """Warn if the texts of two classes become the same tokens, or if a text is too long.

        Args:
            conditions: the condition of each class.
        """
        length = self.tokenizer.model_max_length
        warn_of_tokens(prompts(conditions), [(self.tokenizer, length)], stacklevel=5)

    def predict_noise(self, net: Any, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        return net(x, t, encoder_hidden_states=condition.to(x)).sample

    def defaults(self, n_classes: int, class_names: Sequence[str] | None) -> list[Any]:
        if class_names is None or len(class_names) != n_classes:
            raise unknown_conditions(n_classes, "texts, and the classifier has no class names")
        return [self.template.format(name) for name in class_names]


def prompts(conditions: Sequence[Any]) -> list[str]:
    """Return the text of each condition. The text of the condition None is empty."""
    texts = ["" if each is None else each for each in conditions]
    return [validate.instance(text, str, "conditions", "texts") for text in texts]


def warn_of_tokens(
    texts: Sequence[str], readers: Sequence[tuple[Any, int]], stacklevel: int
) -> None:
    """Warn if two texts become the same tokens, or if all encoders cut the end of a text.

    Args:
        texts: the text of each class.
        readers: the tokenizer of each encoder, and the number of tokens at which it cuts.
        stacklevel: number of frames from ``warnings.warn`` to the frame that the warning shows.
    """
    tokens = [
        [list(words) for words in tokenizer(list(texts), verbose=False).input_ids]
        for tokenizer, _ in readers
    ]
    lengths = [length for _, length in readers]
    of_text = list(zip(*tokens, strict=True))
    # The last token marks the end.
    seen = [
        [words[: length - 1] for words, length in zip(each, lengths, strict=True)]
        for each in of_text
    ]
    problems = []
    if same := [(a, b) for b in range(len(seen)) for a in range(b) if seen[a] == seen[b]]:
        first = " and ".join(f"{i} ({texts[i]!r:.60})" for i in same[0])
        problems.append(
            f"classes {first} become the same tokens, so the model can't distinguish them"
        )
    cut = [
        text
        for text, each in zip(texts, of_text, strict=True)
        if all(len(words) > length for words, length in zip(each, lengths, strict=True))
    ]
    if cut:
        problems.append(
            f"the end of {cut[0]!r:.60} is cut, after {max(lengths)} tokens with both ends"
        )
    if problems:
        warnings.warn(
            f"conditions: {'; '.join(problems)}; give shorter texts that differ, by "
            "conditions, class_names or template",
            stacklevel=stacklevel,
        )


def checked_template(value: Any, name: str = "template") -> str:
    """Check that ``value`` is a text with one {}, and return it."""
    if not isinstance(value, str):
        raise TypeError(f"{name}: expected a text with {{}}, got {validate.describe(value)}")
    rest = value.replace("{}", "", 1)
    if len(rest) == len(value) or "{" in rest or "}" in rest:
        raise ValueError(f"{name}: expected a text with {{}} once, got {value!r:.80}")
    return value


def unknown_conditions(n_classes: int, known: str) -> ValueError:
    return ValueError(
        f"conditions: expected one for each of the classifier's {n_classes} classes, as a list in "
        f"their order, since they can't be inferred; the model knows {known}"
    )


def _texts(value: Any, name: Any) -> tuple[str, ...]:
    """Check that the options of an attribute are different texts, and return them."""
    options = validate.names(value, f"options[{name!r}]") if not isinstance(value, Mapping) else ()
    plain = options and all(isinstance(each, str) for each in value)
    if not plain or len(set(options)) < len(options):
        raise ValueError(
            f"options[{name!r}]: expected different texts, one for each option, got "
            f"{validate.describe(value)}"
        )
    return options


def _number(value: Any, count: int) -> int:
    number = validate.count(value, "conditions")
    if number >= count:
        raise ValueError(f"conditions: expected classes from 0 to {count - 1}, got {number}")
    return number
