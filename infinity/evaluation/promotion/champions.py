"""The champion of every model family: numbered records in storage, each written only if no one wrote it first.

Layout::

    <root>/<family>/000001.json, 000002.json, ...
    <root>/<family>/kept/<digest>.json

The record with the highest number is the present one. A change names the number it follows, and writes the next record
if that record does not exist yet. So of two simultaneous changes exactly one succeeds, and the other fails with an
error. No record is ever changed or deleted (decision 24). The files in ``kept`` name models that were no worse than the
champion but better in no metric: they did not replace it.
"""

from __future__ import annotations

import getpass
import hashlib
import re
import socket
import unicodedata
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from infinity import storage
from infinity.checkpoint import MARKER_FILE
from infinity.config import Config
from infinity.evaluation.promotion.rolled_back import rolled_back
from infinity.evaluation.score import Score
from infinity.storage.json_files import read_config

KEPT_FOLDER = "kept"
_RESTORE = "restore the file; records of champions are never changed or deleted"

_FAMILY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_RECORD = re.compile(r"(\d{6})\.json")


class ChampionError(ValueError):
    """The registry has no such record, or is damaged."""


class ChampionChangedError(ChampionError):
    """Someone else changed the champion since it was read; nothing was written."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Champion(Config):
    """One record of a family's history.

    Args:
        family: Name of the family; models of one family compete with each other.
        number: Number of this record, counted from 1.
        parent: Number of the record before it; 0 for the first.
        action: "promote" for a better model, "rollback" for a return to an earlier one.
        model: URI of the model folder.
        model_digest: Digest of the model's checkpoint.
        evaluation: URI of the folder of the evaluation that decided; None for a rollback.
        scores: Scores of the model, with their protocols.
        why: The reason in one sentence.
        who: User and machine.
        when: Time of the change, UTC, ISO 8601.
        token: Random text by which a writer recognises its own record after a lost answer.
        set_aside: For a rollback, digests of the models that are not promoted again unless someone asks for them by
            name. None in promotions, and in records of earlier versions.
    """

    family: str
    number: int
    parent: int
    action: Literal["promote", "rollback"]
    model: str
    model_digest: str
    evaluation: str | None
    scores: tuple[Score, ...]
    why: str
    who: str
    when: str
    token: str
    set_aside: tuple[str, ...] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Kept(Config):
    """A model that passed the gate but was better in no metric, and so did not replace the champion.

    Args:
        family: Name of the family.
        number: Number of the champion's record, which stayed.
        model: URI of the model folder.
        model_digest: Digest of the model's checkpoint.
        why: The reason in one sentence.
        who: User and machine.
        when: Time of the decision, UTC, ISO 8601.
    """

    family: str
    number: int
    model: str
    model_digest: str
    why: str
    who: str
    when: str


@dataclass(frozen=True, slots=True)
class Champions:
    """The registry below one root, which is a folder or a bucket's prefix."""

    root: str

    def families(self) -> tuple[str, ...]:
        """Return the names of all families that have a champion.

        Raises:
            StorageError: The root cannot be listed.
        """
        start = len(self.root.rstrip("/")) + 1
        paths = (uri[start:].split("/") for uri in storage.list_files(self.root))
        return tuple(sorted({path[0] for path in paths if len(path) == 2 and _RECORD.fullmatch(path[1])}))

    def history(self, family: str) -> tuple[Champion, ...]:
        """Return all records of a family, oldest first; empty if it has none.

        Raises:
            ChampionError: A record is missing, damaged, or of another family.
        """
        numbers = self._numbers(family)
        return tuple(self._read(family, number) for number in numbers)

    def champion(self, family: str) -> Champion | None:
        """Return the present champion, or None if the family has none.

        Raises:
            ChampionError: The record is damaged.
        """
        numbers = self._numbers(family)
        return self._read(family, numbers[-1]) if numbers else None

    def promote(
        self,
        family: str,
        *,
        follows: Champion | None,
        model: str,
        model_digest: str,
        evaluation: str,
        scores: tuple[Score, ...],
        why: str,
    ) -> Champion:
        """Make a model the champion, if the champion is still the one that the model was compared with.

        Args:
            family: The family.
            follows: Champion that the model was compared with; None where there was none.
            model: URI of the model folder.
            model_digest: Digest of the model's checkpoint.
            evaluation: URI of the folder of the model's evaluation.
            scores: Scores of the model.
            why: The reason in one sentence.

        Raises:
            ChampionChangedError: Another change came first.
            ChampionError: The folder does not hold the checkpoint that was evaluated.
        """
        check_digest(model, model_digest)
        parent = 0 if follows is None else follows.number
        return self._append(
            Champion(
                family=family,
                number=parent + 1,
                parent=parent,
                action="promote",
                model=model,
                model_digest=model_digest,
                evaluation=evaluation,
                scores=scores,
                why=why,
                **_signature(),
            )
        )

    def keep(self, champion: Champion, *, model: str, model_digest: str, why: str) -> None:
        """Record a model that was no worse than the champion but better in no metric; the champion stays.

        Args:
            champion: Champion that the model was compared with.
            model: URI of the model folder.
            model_digest: Digest of the model's checkpoint.
            why: The reason in one sentence.
        """
        signed = _signature()
        note = Kept(
            family=champion.family, number=champion.number, model=model, model_digest=model_digest, why=why,
            who=signed["who"], when=signed["when"],
        )  # fmt: skip
        storage.write_text(
            storage.join(self._folder(champion.family), KEPT_FOLDER, f"{model_digest}.json"), note.dump()
        )

    def kept(self, family: str) -> tuple[Kept, ...]:
        """Return the models that passed but replaced no champion, the latest decision last.

        Raises:
            ConfigError: A record is damaged.
        """
        uris = storage.list_files(storage.join(self._folder(family), KEPT_FOLDER))
        notes = (read_config(uri, Kept, remedy=_RESTORE) for uri in uris)
        return tuple(sorted(notes, key=lambda note: (note.when, note.model_digest)))

    def rollback(self, family: str, *, to: int | None = None, why: str = "", follows: int | None = None) -> Champion:
        """Make an earlier champion the champion again, by a new record; models that came up after it are set aside.

        Scheduled evaluations do not promote these models again, unless someone asks for them by name. A model that was
        champion before the one that comes back is not set aside: to roll a rollback back says nothing against it.
        Where a family never had another champion, but models that were no worse than it, the rollback sets those
        models aside.

        Args:
            family: The family.
            to: Number of the record whose model becomes champion again; None takes the last record with a model other
                than the present one that is not set aside.
            why: The reason, for the record.
            follows: Number of the record that the caller believes is the present one; None takes the present one.

        Raises:
            ChampionError: There is no such record, it has the present model, or the model's folder has changed.
            ChampionChangedError: Another change came first.
        """
        history = self.history(family)
        if not history:
            raise ChampionError(f"{self.root}: the family {family!r} has no champion; {self._known()}")
        present = history[-1]
        target = self._target(family, history, to)
        known = [record.model_digest for record in history]
        first = known.index(target.model_digest)
        gone = [digest for digest in known[target.number :] if known.index(digest) > first]
        if target.model_digest == present.model_digest:
            gone = [note.model_digest for note in self.kept(family) if note.model_digest != present.model_digest]
        check_digest(target.model, target.model_digest)
        parent = present.number if follows is None else follows
        return self._append(
            target.replace(
                number=parent + 1,
                parent=parent,
                action="rollback",
                why=f"back to record {target.number}" + (f": {why}" if why else ""),
                set_aside=tuple(dict.fromkeys(gone)),
                **_signature(),
            )
        )

    def _target(self, family: str, history: tuple[Champion, ...], to: int | None) -> Champion:
        """Return the record that a rollback goes back to."""
        present = history[-1]
        if to is not None:
            target = next((record for record in history if record.number == to), None) or self._no_record(family, to)
            if target.model_digest == present.model_digest:
                raise ChampionError(f"{family}: record {to} is the present champion's model; nothing to roll back")
            return target
        gone = rolled_back(history)
        earlier = [record for record in history if record.model_digest != present.model_digest]
        if still := [record for record in earlier if record.model_digest not in gone]:
            return still[-1]
        if earlier:
            raise ChampionError(
                f"{self.root}: every other champion of {family!r} was set aside by a rollback; name the record to go "
                "back to (--to), `infinity registry show` lists them"
            )
        if any(note.model_digest not in {*gone, present.model_digest} for note in self.kept(family)):
            return present
        raise ChampionError(f"{self.root}: the family {family!r} never had another champion to go back to")

    def _append(self, record: Champion) -> Champion:
        family, parent = record.family, record.parent
        numbers = self._numbers(family)
        if (numbers[-1] if numbers else 0) < parent:
            raise ChampionError(f"{self.root}: the family {family!r} has no record {parent} to follow")
        try:
            storage.write_text(self._uri(family, record.number), record.dump(), if_absent=True)
        except storage.FileAlreadyThereError as error:
            other = self._read(family, record.number)
            if other.token != record.token:  # an equal token is ours: the write was repeated after a lost answer
                raise ChampionChangedError(
                    f"{family}: {other.who} made {other.model} (digest {other.model_digest}) champion at {other.when}, "
                    "after this change looked; nothing was changed. Compare with the new champion and try again"
                ) from error
        return record

    def _numbers(self, family: str) -> list[int]:
        """Return the numbers of the existing records, ascending; a gap is an error."""
        names = (storage.name(uri) for uri in storage.list_files(self._folder(family)))
        numbers = sorted(int(match[1]) for name in names if (match := _RECORD.fullmatch(name)))
        if numbers != list(range(1, len(numbers) + 1)):
            missing = min(set(range(1, numbers[-1] + 1)) - set(numbers))
            raise ChampionError(
                f"{self._uri(family, missing)}: this record of the history is missing; restore the file"
            )
        return numbers

    def _read(self, family: str, number: int) -> Champion:
        uri = self._uri(family, number)
        record = read_config(uri, Champion, remedy=_RESTORE)
        if (record.family, record.number, record.parent) != (family, number, number - 1):
            raise ChampionError(
                f"{uri}: expected record {number} of the family {family!r}, found record {record.number} of "
                f"{record.family!r} after {record.parent}"
            )
        return record

    def _folder(self, family: str) -> str:
        if not _FAMILY.fullmatch(family):
            raise ChampionError(f"family: expected letters, digits, dots and dashes like 'demo', got {family!r}")
        return storage.join(self.root, family)

    def _uri(self, family: str, number: int) -> str:
        return storage.join(self._folder(family), f"{number:06d}.json")

    def _known(self) -> str:
        return f"there are champions of {', '.join(self.families()) or 'no family'}"

    def _no_record(self, family: str, number: int) -> Champion:
        raise ChampionError(
            f"{self.root}: the family {family!r} has no record {number}; `infinity registry show` lists"
        )


def family_of(run: str) -> str:
    """Return the family of a run's models: the run's name, or its plain letters and a digest where it has others too.

    Example:
        >>> family_of("demo"), family_of("my pictures")
        ('demo', 'my-pictures-583ce862')
    """
    if _FAMILY.fullmatch(run):
        return run
    name = unicodedata.normalize("NFC", run)  # a disk may change the form of a name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return "-".join((*re.findall(r"[A-Za-z0-9]+", name), digest))


def check_digest(model: str, digest: str) -> None:
    """Check that a folder still holds the expected checkpoint.

    Raises:
        ChampionError: The folder holds another checkpoint, or none.
    """
    marker = storage.join(model, MARKER_FILE)
    found = storage.read_text(marker).strip() if storage.exists(marker) else ""
    if found != digest:
        raise ChampionError(
            f"{model}: expected the checkpoint {digest}, found {found or 'none'}; it was trained again or deleted "
            "since it was evaluated; restore it, or evaluate the present one or roll back to another record"
        )


def _signature() -> dict[str, Any]:
    """Return who writes a record, when, and a random token."""
    when = datetime.now(UTC).isoformat(timespec="seconds")
    return {"who": _who(), "when": when, "token": uuid.uuid4().hex}


def _who() -> str:
    """Return user and machine, as far as they are known."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no name
        user = "unknown"
    return f"{user}@{socket.gethostname()}"
