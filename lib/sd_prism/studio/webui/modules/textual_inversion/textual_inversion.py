"""The embeddings of the user's folder, under the names that prompts call them by."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import safetensors.torch
import torch
from sd_prism.errors import PrismError
from sd_prism.studio.lora import files_below

from modules import devices, errors, sd_models, shared

PICKLES = (".pt", ".bin")


class Embedding:
    """Vectors (vectors, shape) for one word; for SDXL a dict of them by "clip_l" and "clip_g"."""

    def __init__(self, vec: Any, name: str, step: int | None = None) -> None:
        self.vec, self.name, self.step = vec, name, step
        self.shape: int | None = None
        self.vectors = 0
        self.sd_checkpoint: str | None = None
        self.sd_checkpoint_name: str | None = None
        self.filename: str | None = None
        self.hash: str | None = None
        self.shorthash: str | None = None

    def set_hash(self, v: str) -> None:
        """SHA-256 of the file; infotexts show its first twelve digits."""
        self.hash, self.shorthash = v, v[:12]


class DirWithTextualInversionEmbeddings:
    """A folder that is read again when something in it was added or removed."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.mtime: float | None = None

    def has_changed(self) -> bool:
        """Whether the folder is newer than when it was read."""
        return os.path.isdir(self.path) and (self.mtime is None or os.path.getmtime(self.path) > self.mtime)

    def update(self) -> None:
        """Remember that the folder is being read."""
        if os.path.isdir(self.path):
            self.mtime = os.path.getmtime(self.path)


class EmbeddingDatabase:
    """The embeddings that fit the loaded model (`word_embeddings`) and those that do not (`skipped_embeddings`)."""

    def __init__(self) -> None:
        self.ids_lookup: dict[int, list[tuple[list[int], Embedding]]] = {}
        self.word_embeddings: dict[str, Embedding] = {}
        self.skipped_embeddings: dict[str, Embedding] = {}
        self.expected_shape = -1
        self.embedding_dirs: dict[str, DirWithTextualInversionEmbeddings] = {}

    def add_embedding_dir(self, path: str) -> None:
        """Read this folder too."""
        self.embedding_dirs[path] = DirWithTextualInversionEmbeddings(path)

    def clear_embedding_dirs(self) -> None:
        """Read no folder any more."""
        self.embedding_dirs.clear()

    def register_embedding(self, embedding: Embedding, model: Any) -> Embedding | None:
        """Let prompts call the embedding by its name."""
        return self.register_embedding_by_name(embedding, model, embedding.name)

    def register_embedding_by_name(self, embedding: Embedding | None, model: Any, name: str) -> Embedding | None:
        """As `register_embedding`, under another name; None takes the name away."""
        ids = model.cond_stage_model.tokenize([name])[0]
        if not ids:
            raise PrismError(f'an embedding cannot be called "{name}", because that is no word to the tokenizer')
        others = [known for known in self.ids_lookup.pop(ids[0], []) if known[1].name != name]
        found = others if embedding is None else [*others, (ids, embedding)]
        if found:
            self.ids_lookup[ids[0]] = sorted(found, key=lambda known: len(known[0]), reverse=True)
        if embedding is None:
            self.word_embeddings.pop(name, None)
        else:
            self.word_embeddings[name] = embedding
        return embedding

    def get_expected_shape(self) -> int:
        """The width of the loaded model's text part."""
        return int(shared.sd_model.cond_stage_model.encode_embedding_init_text(",", 1).shape[1])

    def load_from_file(self, path: str, filename: str) -> None:
        """Read one file; raises PrismError for files that are no embedding or not read here."""
        name, suffix = os.path.splitext(filename)
        if suffix.lower() in PICKLES:
            raise PrismError(
                f"{filename} is a pickle, which can run any code when it is opened and is therefore not read; "
                "convert it to .safetensors"
            )
        if suffix.lower() != ".safetensors" or not os.path.getsize(path):
            return
        try:
            data = safetensors.torch.load_file(path)
        except safetensors.SafetensorError as error:
            raise PrismError(f"{filename} is damaged ({error}); download it again") from error
        embedding = create_embedding_from_data(data, name, filename=filename, filepath=path)
        if self.expected_shape in (-1, embedding.shape):
            self.register_embedding(embedding, shared.sd_model)
        else:
            self.skipped_embeddings[name] = embedding

    def load_from_dir(self, embdir: DirWithTextualInversionEmbeddings) -> None:
        """Read all files of a folder; those that cannot be read are told about."""
        for file in files_below(embdir.path):
            try:
                self.load_from_file(str(file), file.name)
            except PrismError as error:
                errors.report(f"Error loading embedding {file.name}: {error}")
            except Exception:
                errors.report(f"Error loading embedding {file.name}", exc_info=True)

    def load_textual_inversion_embeddings(self, force_reload: bool = False) -> None:
        """Read the folders if one has changed."""
        if not force_reload and not any(embdir.has_changed() for embdir in self.embedding_dirs.values()):
            return
        told = set(self.skipped_embeddings)
        self.ids_lookup.clear()
        self.word_embeddings.clear()
        self.skipped_embeddings.clear()
        if not any(os.path.isdir(path) for path in self.embedding_dirs):
            return
        self.expected_shape = self.get_expected_shape()
        for embdir in self.embedding_dirs.values():
            embdir.update()
            self.load_from_dir(embdir)
        in_order = sorted(self.word_embeddings.items(), key=lambda item: item[0].lower())
        self.word_embeddings.clear()
        self.word_embeddings.update(in_order)
        for name in self.skipped_embeddings.keys() - told:
            shape = self.skipped_embeddings[name].shape
            print(f"Embedding {name} is {shape} wide and not used; this model needs {self.expected_shape}.")

    def find_embedding_at_position(self, tokens: list[int], offset: int) -> tuple[Embedding | None, int | None]:
        """The embedding with the longest name that stands at `offset`, and the length of the name in tokens."""
        for ids, embedding in self.ids_lookup.get(tokens[offset], []):
            if tokens[offset : offset + len(ids)] == ids:
                return embedding, len(ids)
        return None, None


def create_embedding_from_data(
    data: Mapping[str, torch.Tensor], name: str, filename: str = "unknown embedding file", filepath: str | None = None
) -> Embedding:
    """The embedding of a file's tensors: a single one, or "clip_l" and "clip_g" for SDXL."""
    vec: Any
    if {"clip_g", "clip_l"} <= data.keys():
        vec = {key: _vectors(tensor) for key, tensor in data.items()}
        shape, vectors = vec["clip_g"].shape[1] + vec["clip_l"].shape[1], len(vec["clip_g"])
    elif len(data) == 1:
        vec = _vectors(next(iter(data.values())))
        vectors, shape = vec.shape
    else:
        listed = ", ".join(sorted(data)[:4])
        raise PrismError(f"{filename} is no embedding: it has {len(data)} tensors ({listed}); expected one")
    embedding = Embedding(vec, name)
    embedding.shape, embedding.vectors = shape, vectors
    if filepath:
        embedding.filename = filepath
        embedding.set_hash(sd_models.sha256(filepath))
    return embedding


def _vectors(tensor: torch.Tensor) -> torch.Tensor:
    vec = tensor.to(devices.device, dtype=torch.float32)
    vec = vec[None] if vec.ndim == 1 else vec
    if vec.ndim != 2:
        raise PrismError(f"an embedding has the shape {tuple(vec.shape)}; expected (vectors, width)")
    return vec
