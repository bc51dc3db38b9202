"""The user's presets and cards: one file each in a folder that several programs may share.

A file is only ever replaced whole, and what it was before goes to `.trash/<time>/`, one folder for each thing done. A
file there that is empty says that there was none. To undo is to put the newest folder's files back into use; what was
in use then goes to `.trash/<time>.undone/`, which is not undone itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from ..errors import PrismError, UnknownName
from ..files import locked, write_whole
from . import shipped
from .preset import BUILT_IN, FEATURES, LARGEST, LONGEST_NAME, SEVERAL, USER, VERSION, Preset, folded, parse, plain

ENDING = ".json"
TRASH, UNDONE = ".trash", ".undone"
KEPT = 1000  # things done that can be undone
STALE = 3600.0  # seconds after which the draft of a killed process is no longer anybody's
SLUG, HASH = 40, 8  # characters of a file's name
LARGEST_IMPORT = 256 << 20  # bytes; a picture may be large
State = tuple[int, int, int]


class Problem(NamedTuple):
    """A file that is left alone, and why."""

    file: Path
    reason: str


class Version(NamedTuple):
    """What a preset was before it was changed or deleted at that time (seconds since 1970)."""

    when: float
    preset: Preset


@dataclass(frozen=True)
class _Seen:
    """A file as it was read: the preset, or why there is none."""

    file: Path
    state: State
    preset: Preset | None = None
    reason: str = ""


Presets = list[Preset]  # the class has a method of the name list
Problems = list[Problem]
Versions = list[Version]


class Store:
    """Presets of all panels, and cards: the built-in ones and those of a folder, which needs not exist yet.

    Several stores, also of several processes, may have the same folder; each sees what the others do.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(os.path.abspath(folder))
        self._seen: dict[Path, _Seen] = {}
        self._lock = threading.RLock()

    # --- reading

    def list(self, feature: str | None = None, search: str = "") -> Presets:
        """Presets by feature: the built-in ones that none of the user's replaces, then the user's by name.

        Args:
            search: words that must all stand in the name, author, notes or families, in any case.
        """
        wanted = FEATURES if feature is None else (_feature(feature),)
        words = search.casefold().split()
        return [one for name in wanted for one in self._of(name).values() if _has(one, words)]

    def get(self, feature: str, name: str) -> Preset:
        """The preset of that name, the user's first; UnknownName names the nearest."""
        known = self._of(_feature(feature))
        if folded(name) not in known:
            raise UnknownName(f"{feature} preset", name, [one.name for one in known.values()])
        return known[folded(name)]

    @property
    def unreadable(self) -> Problems:
        """Files that are no presets, and files with the name of another one."""
        return [Problem(one.file, one.reason) for feature in FEATURES for one in self._files(feature) if one.reason]

    def state(self) -> tuple[object, ...]:
        """Something that is equal as long as no file has changed."""
        return tuple((one.file, one.state) for feature in FEATURES for one in self._files(feature))

    def versions(self, feature: str, name: str) -> Versions:
        """What the user's preset of that name was before, newest first; also of one that was deleted.

        To have one back, save it.
        """
        found, part = Versions(), _feature(feature)
        for action in reversed(_actions(self.folder)):
            for file in (self.folder / TRASH / action / part).glob(f"*{ENDING}"):
                with contextlib.suppress(PrismError, OSError):
                    preset = _read(file)
                    if folded(preset.name) == folded(name):
                        found.append(Version(_nanoseconds(action) / 1e9, preset))
        return found

    # --- changing

    def save(self, preset: Preset) -> Preset:
        """Writes one preset; that of its name is replaced, but for what its file has that this version does not know.

        Raises PrismError that says what is wrong with it, or why the file could not be written.
        """
        return self.save_all([preset])[0]

    def save_all(self, presets: Iterable[Preset]) -> Presets:
        """As `save`, all of them or none; one `undo` takes them all back."""
        checked = [replace(one, origin=USER).checked(f'The preset "{one.name[:40]}"') for one in presets]
        with self._changing():
            action = _new_action(self.folder)
            return [self._write(one, action) for one in checked]

    def delete(self, feature: str, name: str) -> None:
        """Puts the user's preset of that name away; `undo` and `versions` have it."""
        preset = self.get(feature, name)
        if preset.origin == BUILT_IN:
            raise PrismError(f'"{preset.name}" is built in; it cannot be deleted')
        with self._changing():
            seen = self._find(preset)
            if seen is not None:  # another program may have been quicker
                os.replace(seen.file, _place(_new_action(self.folder), seen.file))

    def undo(self) -> str:
        """Takes back the last thing done and not yet taken back, whoever did it; says what came back.

        Raises PrismError where there is nothing to take back.
        """
        with self._changing():
            aside = _new_action(self.folder, UNDONE)
            for name in reversed([one for one in _actions(self.folder) if not one.endswith(UNDONE)]):
                action = self.folder / TRASH / name
                done = [self._back(file, aside) for file in sorted(action.glob(f"*/*{ENDING}"))]
                shutil.rmtree(action, ignore_errors=True)
                if any(done):
                    return ", ".join(filter(None, done))
        raise PrismError("There is nothing to undo")

    def import_(self, source: bytes | str | Path, file_name: str = "") -> Presets:
        """Saves all presets of a file of ours or of another program; see `importers`.

        One that has the name of another with other values gets a number; one that is there already stays as it is.

        Args:
            source: the file's content, or its path.
            file_name: names presets that have no name of their own.

        Returns them as they are in the store now. Raises PrismError that says what could not be read; nothing is saved
        then.
        """
        from . import importers

        if isinstance(source, Path):
            file_name = file_name or source.name
            source = _content(source, LARGEST_IMPORT)
        taken = {feature: self._of(feature) for feature in FEATURES}
        found, new = Presets(), Presets()
        for one in importers.read(source, file_name):
            preset = _beside(one, taken[one.feature])
            if folded(preset.name) not in taken[one.feature]:
                taken[one.feature][folded(preset.name)] = preset
                new.append(preset)
            found.append(preset)
        if new:
            self.save_all(new)
        return [self.get(one.feature, one.name) for one in found]

    def export(self, presets: Iterable[Preset]) -> str:
        """One file with these presets, which `import_` reads."""
        chosen = [one.to_json() for one in presets]
        whole = chosen[0] if len(chosen) == 1 else {"format": SEVERAL, "version": VERSION, "presets": chosen}
        return plain(whole, "The export")

    # --- files

    def _of(self, feature: str) -> dict[str, Preset]:
        """Presets of a feature by folded name."""
        mine = {folded(one.preset.name): one.preset for one in self._files(feature) if one.preset}
        mine = {name: mine[name] for name in sorted(mine)}
        return {**{folded(one.name): one for one in shipped.presets(feature)}, **mine}

    def _files(self, feature: str) -> Sequence[_Seen]:
        """Every file of a feature, read again only where it has changed; of files with one name the first counts."""
        with self._lock:
            found = []
            names: dict[str, str] = {}
            for file, state in _scan(self.folder / feature):
                seen = self._seen.get(file)
                if seen is None or seen.state != state:
                    seen = self._seen[file] = _look(file, feature, state)
                if seen.preset:
                    first = names.setdefault(folded(seen.preset.name), file.name)
                    if first != file.name:
                        seen = _Seen(file, state, None, f'{first} has the name "{seen.preset.name}" as well')
                found.append(seen)
            return found

    def _find(self, preset: Preset) -> _Seen | None:
        wanted = folded(preset.name)
        return next(
            (one for one in self._files(preset.feature) if one.preset and folded(one.preset.name) == wanted), None
        )

    def _write(self, preset: Preset, action: Path) -> Preset:
        there = self._find(preset)
        file = there.file if there else _free(self.folder / preset.feature, preset.name)
        preset = preset if there is None or there.preset is None else preset.over(there.preset)
        text = plain(preset.to_json(), f'The preset "{preset.name}"')
        file.parent.mkdir(parents=True, exist_ok=True)
        _sweep(file.parent)
        write_whole(_place(action, file), file.read_text("utf-8") if there else "")
        write_whole(file, text)
        return preset

    def _back(self, old: Path, aside: Path) -> str:
        """Puts a file of the trash to use again and the one in use aside; the name of what came or went, if any."""
        file = self.folder / old.parent.name / old.name
        now, before = file.read_bytes() if file.exists() else b"", old.read_bytes()
        if now == before:  # its change was begun and did not come to an end
            return ""
        if now:
            write_whole(_place(aside, file), now)
        seen = _look(old if before else file, old.parent.name)
        if before:
            file.parent.mkdir(parents=True, exist_ok=True)
            os.replace(old, file)
        else:
            file.unlink()
        return seen.preset.name if seen.preset else file.name

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        """Alone with the folder."""
        try:
            with self._lock:
                self.folder.mkdir(parents=True, exist_ok=True)
                with locked(self.folder / ".lock"):
                    yield
                    for action in _actions(self.folder)[:-KEPT]:
                        shutil.rmtree(self.folder / TRASH / action, ignore_errors=True)
        except OSError as error:
            raise PrismError(f"{self.folder} cannot be changed: {error.strerror or error}") from error


def _feature(name: str) -> str:
    if name not in FEATURES:
        raise UnknownName("feature", name, FEATURES)
    return name


def _has(preset: Preset, words: Iterable[str]) -> bool:
    text = "\n".join((preset.name, preset.author, preset.notes, *preset.families)).casefold()
    return all(word in text for word in words)


def _beside(preset: Preset, taken: Mapping[str, Preset]) -> Preset:
    """The preset, under a name that no other one has."""
    number, name = 1, preset.name
    while (other := taken.get(folded(name))) and (other.values, other.extra) != (preset.values, preset.extra):
        number += 1
        ending = f" ({number})"
        name = preset.name[: LONGEST_NAME - len(ending)] + ending
    return replace(preset, name=name)


# --- files of a feature


def _scan(folder: Path) -> list[tuple[Path, State]]:
    """The files of presets in a folder with what tells whether one has changed."""
    try:
        with os.scandir(folder) as entries:
            found = [one for one in entries if one.name.endswith(ENDING) and not one.name.startswith(".")]
            stats = [(Path(one.path), one.stat()) for one in found if one.is_file()]
    except OSError:  # no folder yet, or a file that another program has just put away
        return []
    return sorted((file, (stat.st_mtime_ns, stat.st_size, stat.st_ino)) for file, stat in stats)


def _look(file: Path, feature: str, state: State = (0, 0, 0)) -> _Seen:
    try:
        preset = _read(file)
        if preset.feature != feature:
            raise PrismError(f"it is a preset of {preset.feature}, in the folder of {feature}")
    except PrismError as error:
        return _Seen(file, state, None, str(error))
    return _Seen(file, state, preset)


def _read(file: Path) -> Preset:
    return Preset.of_json(parse(_text(file), file.name), file.name)


def _text(file: Path) -> str:
    try:
        return _content(file, LARGEST).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PrismError(f"{file.name} is no text in UTF-8: {error}") from error


def _content(file: Path, most: int) -> bytes:
    try:
        with file.open("rb") as stream:
            content = stream.read(most + 1)
    except OSError as error:
        raise PrismError(f"{file} cannot be read: {error.strerror or error}") from error
    if len(content) > most:
        raise PrismError(f"{file.name} is larger than {most >> 20} MiB")
    return content


def _free(folder: Path, name: str) -> Path:
    """A file that is not there yet, named so that every system takes it."""
    text = folded(name)
    slug = re.sub(r"\W+", "-", text).strip("-")[:SLUG] + "-" + hashlib.sha256(text.encode()).hexdigest()[:HASH]
    file, number = folder / f"{slug}{ENDING}", 1
    while os.path.lexists(file):  # one that cannot be read
        number += 1
        file = folder / f"{slug}-{number}{ENDING}"
    return file


def _sweep(folder: Path) -> None:
    """Removes drafts of processes that were killed long ago."""
    for draft in folder.glob(f".*{ENDING}.*"):
        with contextlib.suppress(OSError):
            if time.time() - draft.stat().st_mtime > STALE:
                draft.unlink()


# --- the trash


def _actions(folder: Path) -> list[str]:
    """What was done, oldest first: names of folders in the trash."""
    try:
        names = [name for name in os.listdir(folder / TRASH) if re.fullmatch(rf"\d+({UNDONE})?", name)]
    except OSError:
        return []
    return sorted(names, key=_nanoseconds)


def _new_action(folder: Path, ending: str = "") -> Path:
    """The next place in the trash, later than all others even where the clock was set back."""
    last = max((_nanoseconds(one) for one in _actions(folder)[-1:]), default=0)
    return folder / TRASH / f"{max(time.time_ns(), last + 1)}{ending}"


def _nanoseconds(name: str) -> int:
    return int(name.removesuffix(UNDONE))


def _place(action: Path, file: Path) -> Path:
    """Where a file goes in the trash."""
    place = action / file.parent.name / file.name
    place.parent.mkdir(parents=True, exist_ok=True)
    return place
