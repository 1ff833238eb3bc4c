"""A model of the kit for lm-evaluation-harness: it scores texts, and continues them.

    model = scoring_model(weights, tokenizer, encoder=Encoder(...))     # or None: texts as they are
    lm_eval.simple_evaluate(model, tasks=...)

With an encoder, prompt and continuation are normalised and segmented like the corpus, each on its own, as
tokens never cross words. Blank lines, which no corpus has, are left out; stop sequences follow that.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from lm_eval.api.model import TemplateLM
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from kit.errors import InputError
from kit.output.progress import progress_bar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tokenizers import Tokenizer
    from torch import Tensor

    from kit.release.prepared import Encoder

_TOKENS = 8192  # of a batch
_NEW_TOKENS = 256  # the harness's default of max_gen_toks
Request = tuple[tuple[str, str], list[int], list[int]]  # texts; tokens of both


class ScoringModel(TemplateLM):  # type: ignore[misc]  # the harness is not typed
    """A transformers model on its device, with its tokenizer."""

    def __init__(self, model: Any, tokenizer: Tokenizer, encoder: Encoder | None) -> None:
        super().__init__()
        self._model, self._tokens, self._encoder = model, tokenizer, encoder
        self._length: int = model.config.max_position_embeddings
        self._end = int(model.config.eos_token_id)
        self._device = model.device

    @property
    def eot_token_id(self) -> int:
        """The token that closes a document, and that stands before each."""
        return self._end

    @property
    def tokenizer_name(self) -> str:
        """For the harness's cache of requests, which is not used."""
        return "ekiden"

    def tok_encode(self, string: str, *_: Any, **__: Any) -> list[int]:
        """The tokens of a text."""
        if self._encoder is not None:
            return self._encoder.whole(string)
        ids: list[int] = self._tokens.encode(string, add_special_tokens=False).ids
        return ids

    def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        if self._encoder is not None:
            before, after = self._encoder.pair(context, continuation)
            return before or [self.prefix_token_id], after
        pair: tuple[list[int], list[int]] = super()._encode_pair(context, continuation)
        return pair

    def loglikelihood(self, requests: Sequence[Any], **_: Any) -> list[tuple[float, bool]]:
        """The log-likelihood in nats of continuations, and whether each is the likeliest."""
        found: list[tuple[float, bool]] = super().loglikelihood(requests, disable_tqdm=True)
        return found

    def loglikelihood_rolling(self, requests: Sequence[Any], **_: Any) -> list[float]:
        """The log-likelihood in nats of whole texts, in windows as long as the model's context."""
        rows: list[Request] = []
        owners: list[int] = []
        for number, request in enumerate(requests):
            (text,) = request.args
            windows = get_rolling_token_windows(
                token_list=self.tok_encode(text),
                prefix_token=self.prefix_token_id,
                max_seq_len=self._length,
                context_len=1,
            )
            for window in windows:
                before, after = make_disjoint_window(window)
                rows.append(((text, ""), before, after))
                owners.append(number)
        sums = [0.0] * len(requests)
        scored = self._loglikelihood_tokens(rows)
        for owner, (value, __) in zip(owners, scored, strict=True):
            sums[owner] += value
        return sums

    def _loglikelihood_tokens(
        self, requests: Sequence[Request], **_: Any
    ) -> list[tuple[float, bool]]:
        """For each request the log-probability in nats, and whether each token is the likeliest."""
        for texts, _before, after in requests:
            if not 0 < len(after) <= self._length:
                raise InputError(
                    f"'{texts[1][:30]}' is scored, and has {len(after)} tokens; a text of 1 to "
                    f"{self._length} can be: change the task"
                )
        order = sorted(range(len(requests)), key=lambda n: -_size(requests[n]))
        found: dict[int, tuple[float, bool]] = {}
        with progress_bar("requests", len(order), "request") as advance_to:
            while order:
                length = min(self._length, _size(requests[order[0]]))
                rows = max(1, _TOKENS // length)
                batch, order = order[:rows], order[rows:]
                scored = self._scored([requests[number] for number in batch])
                found |= dict(zip(batch, scored, strict=True))
                advance_to(len(found))
        return [found[number] for number in range(len(requests))]

    def _scored(self, batch: Sequence[Request]) -> list[tuple[float, bool]]:
        """Scores of a batch, whose rows are padded at the end: a causal model does not look there."""
        import torch

        rows = [(before + after)[-(self._length + 1) :] for _, before, after in batch]
        table = torch.full((len(rows), max(map(len, rows)) - 1), self.eot_token_id)
        for line, row in zip(table, rows, strict=True):
            line[: len(row) - 1] = torch.tensor(row[:-1])
        with torch.no_grad():
            logits = self._model(table.to(self._device)).logits
        return [
            _score(line[: len(row) - 1], row, min(len(after), len(row) - 1))
            for line, row, (_, _, after) in zip(logits, rows, batch, strict=True)
        ]

    def generate_until(self, requests: Sequence[Any], **_: Any) -> list[str]:
        """Continue each text up to one of its stop sequences, which is left out."""
        texts = []
        with progress_bar("texts", len(requests), "text") as advance_to:
            for number, request in enumerate(requests):
                advance_to(number)
                texts.append(self._continued(*request.args))
        return texts

    def _continued(self, context: str, settings: dict[str, Any]) -> str:
        import torch
        from transformers import StoppingCriteriaList

        asked = dict(settings)
        until = asked.pop("until", None) or []
        ends = _Ends([until] if isinstance(until, str) else until, self._encoder is not None)
        number = min(int(asked.pop("max_gen_toks", _NEW_TOKENS)), self._length // 2)
        ids = self._prompt(context)[-(self._length - number) :]

        def text(row: Tensor) -> str:
            return str(self._tokens.decode(row[len(ids) :].tolist(), skip_special_tokens=True))

        def is_over(rows: Tensor, _: Any, **__: Any) -> Tensor:
            return torch.tensor([ends.reached(text(row)) for row in rows], device=rows.device)

        output = self._model.generate(
            torch.tensor([ids], device=self._device),
            attention_mask=torch.ones(1, len(ids), dtype=torch.long, device=self._device),
            max_new_tokens=number,
            stopping_criteria=StoppingCriteriaList([is_over]),
            pad_token_id=self.eot_token_id,
            **_sampling(asked),
        )
        return ends.cut(text(output[0]))

    def _prompt(self, context: str) -> list[int]:
        if self._encoder is None:
            return self.tok_encode(context) or [self.prefix_token_id]
        before, line_end = self._encoder.pair(context, "")
        return [*before, *line_end] or [self.prefix_token_id]


class _Ends:
    """Stop sequences. In segmented text a run of line ends is one, and those at the begin do not count."""

    def __init__(self, until: Sequence[str], segmented: bool) -> None:
        self._segmented = segmented
        self._until = [re.sub("\n+", "\n", end) if segmented else end for end in until]

    def reached(self, text: str) -> bool:
        return self.cut(text) != self._shown(text)

    def cut(self, text: str) -> str:
        shown = self._shown(text)
        return shown[
            : min([len(shown), *(at for end in self._until if (at := shown.find(end)) >= 0)])
        ]

    def _shown(self, text: str) -> str:
        return text.lstrip("\n") if self._segmented else text


def _size(request: Request) -> int:
    return len(request[1]) + len(request[2])


def _score(logits: Tensor, row: Sequence[int], scored: int) -> tuple[float, bool]:
    """The log-probability of the last tokens of a row, given the logits before each."""
    import torch

    chances = logits[-scored:].float().log_softmax(-1)
    targets = torch.tensor(row[-scored:], device=chances.device)
    likeliest = bool((chances.argmax(-1) == targets).all())
    return float(chances.gather(-1, targets[:, None]).sum()), likeliest


def _sampling(settings: dict[str, Any]) -> dict[str, Any]:
    """Arguments of `generate`; without do_sample or a temperature the likeliest tokens."""
    drawn = settings.pop("do_sample", None) or float(settings.get("temperature") or 0) > 0
    if not drawn:
        return {"do_sample": False, "temperature": None, "top_p": None}
    return {**settings, "do_sample": True}
