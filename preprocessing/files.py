"""Durable files: written under a temporary name, synced, renamed; folders locked while they are written.

Every file of a store or a run goes through here, so that whatever interrupts a command leaves the old file or
the new one, never a part of one.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
import stat
import zlib
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader, BufferedWriter
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from gated_vae.preprocessing.errors import GatedVAEError, UsageError, naming, raise_trouble

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

SCHEMA_KEY = b"gated_vae.schema_version"
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC  # never waiting on a pipe that is named like a file
_OWN = os.O_RDWR | os.O_CREAT | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC  # for files that are nobody else's
_JSON_BYTES = 16 << 20  # of a manifest at most
_MANIFESTS = ("store.json", "config.json")  # in the folder of a store, of a run
_BEGINNINGS = {  # of the files that we write where the user says
    "parquet": b"PAR1",
    "png": b"\x89PNG\r\n\x1a\n",
    "jpg": b"\xff\xd8\xff",
    "jpeg": b"\xff\xd8\xff",
    "gif": b"GIF8",
    "pdf": b"%PDF-",
    "svg": b'<?xml version="1.0" encoding="utf-8" standalone="no"?>\n<!DOCTYPE svg',
    "html": b"<!DOCTYPE html>\n",
    "onnx": b"\x08",
    "pt2": b"PK\x03\x04",
}
_PICTURE_BYTES = 64 << 20  # of a figure at most
_SEAL_BYTES = 64  # as many as keep Arrow's buffers aligned
_PARQUET = {"compression": "zstd", "write_page_checksum": True}  # unless told otherwise


def open_file(path: str | bytes) -> int:
    """Open a file of somebody else's to read from; `OSError` when it is no regular file. Whoever calls closes the handle."""
    handle = os.open(path, _READ)
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "Not a regular file")
    except OSError as error:
        os.close(handle)
        error.filename = os.fsdecode(path)
        raise
    return handle


@contextmanager
def opened(path: str | bytes) -> Iterator[int]:
    """As `open_file`, closed when the block ends; errors of reading name the path, too."""
    with naming(path):
        handle = open_file(path)
        try:
            yield handle
        finally:
            os.close(handle)


@contextmanager
def open_binary(path: Path) -> Iterator[BufferedReader]:
    """As `opened`, as a file of Python's."""
    with opened(os.fspath(path)) as handle, os.fdopen(handle, "rb", closefd=False) as file:
        yield file


def read_bytes(path: Path, most: int) -> bytes:
    """Read a regular file; `OSError` when it cannot be read or is larger than `most` bytes."""
    with open_binary(path) as file:
        if os.fstat(file.fileno()).st_size > most:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        return file.read(most)


@contextmanager
def readable(path: Path, remedy: str, *troubles: int) -> Iterator[None]:
    """Read a store's or a run's own file by a library: whatever it raises becomes a `GatedVAEError` that names the file.

    So does what is no regular file, which might be waited on without end. The machine's troubles stay what they are, and more of
    them if named (see `raise_trouble`).
    """
    try:
        with naming(path):
            if not stat.S_ISREG(path.stat().st_mode):
                raise ValueError("It is no regular file.")
            yield
    except FileNotFoundError:
        raise GatedVAEError(f"{path} does not exist.", "", remedy) from None
    except (GatedVAEError, MemoryError):
        raise
    except Exception as error:  # NumPy's and Arrow's on damaged files are of a dozen kinds
        why = str(error)
        if isinstance(error, OSError) and error.errno:
            raise_trouble(error, *troubles)
            why = f"{os.strerror(error.errno)}."
        raise GatedVAEError(f"{path} cannot be read.", why, remedy) from None


@contextmanager
def atomic_file(path: Path, *, durable: bool = True) -> Iterator[BufferedWriter]:
    """Yield a new file to write to; on success sync it and give it the name `path`, on failure remove it.

    Without `durable` it is not synced: whole whatever befalls the command, but perhaps torn when the machine stops.
    `GatedVAEError` when another process is writing `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    with naming(path):
        handle = _reserve(partial, f"{path} is being written by another process.")
    file = os.fdopen(handle, "wb")
    try:
        yield file
        file.flush()
        if durable:
            os.fsync(file.fileno())
        partial.replace(path)
        if durable:
            sync(path.parent)
    except BaseException as error:
        if isinstance(error, OSError) and error.filename in (None, os.fspath(partial)):
            error.filename = os.fspath(path)  # writing names none, and nobody knows the temporary name
        with suppress(OSError):  # on a disk that fails it may fail, too: the next writing overwrites it
            partial.unlink(missing_ok=True)
        raise
    finally:
        file.raw.close()  # not `file.close()`, which would try again to write what could not be written


def _reserve(partial: Path, taken: str) -> int:
    """Create an empty file, or take over one that a dead process has left, and lock it; return its handle.

    What else bears its name, a link to a file of somebody's above all, is removed and not written to.
    """
    while True:
        with suppress(FileNotFoundError):
            status = partial.lstat()
            if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
                partial.unlink()
        handle = os.open(partial, _OWN, 0o644)
        try:
            _lock(handle, taken, "Wait for it to finish, or choose another name.")
            with suppress(FileNotFoundError):
                status = os.fstat(handle)
                if status.st_nlink == 1 and os.path.samestat(status, partial.lstat()):
                    os.ftruncate(handle, 0)
                    return handle  # else its writer has renamed it meanwhile
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def commit(partial: Path, path: Path) -> None:
    """Sync `partial` to disk and rename it to `path` (both in one folder)."""
    sync(partial)
    try:
        partial.replace(path)
    except OSError as error:
        error.filename = os.fspath(path)  # nobody knows the other
        raise
    sync(path.parent)


def append_to(path: Path) -> BufferedWriter:
    """Open a file of our own, or a new one, to write at its end; `OSError` where its name is a link's."""
    return os.fdopen(os.open(path, _OWN | os.O_APPEND, 0o644), "ab")


def sync(path: Path) -> None:
    """Flush one file or folder to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        with naming(path):
            os.fsync(handle)
    finally:
        os.close(handle)


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` atomically."""
    with atomic_file(path) as file:
        file.write(data)


def write_sealed(path: Path, data: bytes | pa.Buffer) -> None:
    """Write a work file, `data` after its checksum: atomically but not synced, as most never need to reach the disk."""
    with atomic_file(path, durable=False) as file:
        file.write(_seal(data))
        file.write(data)


def read_sealed(path: Path) -> memoryview | None:
    """What `write_sealed` wrote; None where there is nothing or a machine has torn it by stopping."""
    try:
        with open_binary(path) as file:
            content = memoryview(file.read())
    except FileNotFoundError:
        return None
    data = content[_SEAL_BYTES:]
    return data if content[:_SEAL_BYTES] == _seal(data) else None


def damaged(path: Path) -> GatedVAEError:
    """What is told of a work file that changes under the hands of the command that wrote it."""
    remedy = "Run the same command again: it goes on where it stopped and makes anew what is damaged."
    return GatedVAEError(f"{path} is damaged.", "It has changed since it was written.", remedy)


def _seal(data: bytes | memoryview | pa.Buffer) -> bytes:
    return (b"crc32 %08x" % zlib.crc32(data)).ljust(_SEAL_BYTES - 1) + b"\n"


def make_room(path: Path, size: int) -> None:
    """Make a file of `size` bytes to be filled by `write_at`, or cut or lengthen the one that is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _written(path, os.O_CREAT) as file:
        file.truncate(size)


def write_at(path: Path, offset: int, data: bytes | memoryview) -> None:
    """Write bytes into a file that is there, while others may write elsewhere in it."""
    with _written(path) as file:
        file.seek(offset)
        file.write(data)


@contextmanager
def _written(path: Path, flags: int = 0) -> Iterator[BinaryIO]:
    """Open a file for writing only, as it is: a network drive then sends what is written, not the whole pages around it."""
    flags |= os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    with naming(path), os.fdopen(os.open(path, flags, 0o644), "wb") as file:
        yield file


def ending_of(path: Path, known: Collection[str]) -> str:
    """The form that a name for a new file asks for by its ending, in small letters.

    Raises
    ------
    UsageError
        When it is not `known`, or the name is a folder's.
    GatedVAEError
        When something else than a file of that form has the name, or it leads among the files that make a store or a run.
    """
    ending = path.suffix[1:].lower()
    if ending not in known or path.is_dir():
        why = "It is a folder." if path.is_dir() else f"It ends in .{ending}." if ending else "It has no ending."
        raise UsageError(f"{path} cannot be written.", why, f"Give a name that ends in .{' or .'.join(known)}.")
    place = real(path.parent) / path.name
    folder = next(filter(is_ours, place.parents), place.parent)
    if place.relative_to(folder).parts[:-1] not in ((), ("figures",)):
        why = f"It would lie among the files of {folder}."
        raise GatedVAEError(f"{path} cannot be written.", why, "Choose another name.")
    if is_there(path):
        beginning = read_own(path, len(_BEGINNINGS[ending]))
        if beginning not in (b"", _BEGINNINGS[ending]):
            what, remedy = f"{path} is not replaced.", "Remove it, or choose another name."
            raise GatedVAEError(what, f"It is no {ending} file.", remedy)
    return ending


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, keys in their order, atomically."""
    write_bytes(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def read_json(path: Path, remedy: str) -> dict[str, Any]:
    """Read a JSON object; raise `GatedVAEError` with `remedy` when it is missing, cut or not an object."""
    with readable(path, remedy, errno.EIO):
        value = json.loads(read_bytes(path, _JSON_BYTES))
    if not isinstance(value, dict):
        raise GatedVAEError(f"{path} is not a JSON object.", "", remedy)
    return value


def fits(value: Any, form: Any) -> bool:
    """Whether what JSON says has a form.

    Forms are a type, a tuple of forms that are alternatives, a list of the form of all items, and a dict of the forms of the
    values that must be there by key, or of all values (``{str: form}``). Whole numbers are those that 64 bits can hold.
    """
    if isinstance(form, tuple):
        return any(fits(value, one) for one in form)
    if isinstance(form, list):
        return isinstance(value, list) and all(fits(item, form[0]) for item in value)
    if isinstance(form, dict):
        wanted = dict.fromkeys(value, form[str]) if str in form and isinstance(value, dict) else form
        return isinstance(value, dict) and all(key in value and fits(value[key], one) for key, one in wanted.items())
    return type(value) is form and (form is not int or -(2**63) <= value < 2**63)


def write_parquet(path: Path, table: pa.Table, *, schema_version: int, **options: Any) -> None:
    """Write an Arrow table as Parquet atomically: schema version in its metadata, page checksums, zstd unless told."""
    with parquet_writer(path, table.schema, schema_version=schema_version, **options) as writer:
        writer.write_table(table)


@contextmanager
def parquet_writer(path: Path, schema: pa.Schema, *, schema_version: int, **options: Any) -> Iterator[pq.ParquetWriter]:
    """Yield what writes `path` table by table, as `write_parquet` does at once; on failure nothing is left."""
    import pyarrow.parquet as pq  # where it is used: commands that write no table need not wait for it

    schema = schema.with_metadata({**(schema.metadata or {}), SCHEMA_KEY: str(schema_version).encode()})
    with atomic_file(path) as file, pq.ParquetWriter(file, schema, **{**_PARQUET, **options}) as writer:
        yield writer


def remove(path: Path) -> None:
    """Remove a file, a folder and all in it, or a link, but not what that leads to; nothing if it is not there."""
    if path.is_dir() and not path.is_symlink():
        try:
            shutil.rmtree(path)
        except OSError as error:
            error.filename = os.fspath(path)  # what is named may be relative to a folder in it
            raise
    else:
        path.unlink(missing_ok=True)


def read_picture(path: Path, remedy: str) -> bytes:
    """A PNG that a command of ours has drawn; refused where it is a link or something else."""
    data = read_own(path, _PICTURE_BYTES + 1) or b""
    if not data.startswith(_BEGINNINGS["png"]) or len(data) > _PICTURE_BYTES:
        raise GatedVAEError(f"{path} is not shown.", "It is no png file.", remedy)
    return data


def is_there(path: Path) -> bool:
    """Whether anything has the name, a link to nothing, too; the machine's troubles are raised."""
    return path.is_symlink() or path.exists()


def read_own(path: Path, size: int) -> bytes | None:
    """The beginning of a file that should be ours; None where it is no regular file, links among them."""
    try:
        with os.fdopen(os.open(path, _READ | os.O_NOFOLLOW), "rb") as file:
            return file.read(size) if stat.S_ISREG(os.fstat(file.fileno()).st_mode) else None
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO, errno.EISDIR):  # a link, a socket, a folder
            return None
        raise


def real(path: Path) -> Path:
    """Where a path leads; as it is where that is a link to itself."""
    return Path(os.path.realpath(path))


def refuse_overlap(out: Path, inputs: Iterable[Path]) -> None:
    """Raise `GatedVAEError` where a folder to be written is, holds or lies in what is read, or lies in a store or a run."""
    place, remedy = real(out), "Choose a folder of its own."
    for read in inputs:
        there = real(read)
        if place == there or place in there.parents or there in place.parents:
            how = "is" if place == there else "holds" if place in there.parents else "lies in"
            raise GatedVAEError(f"{out} cannot be written.", f"It {how} {read}, which is read.", remedy)
    refuse_ours(out, itself=False)


def refuse_ours(out: Path, *, itself: bool = True) -> None:
    """Raise `GatedVAEError` where a folder to be written lies in a store or a run, or is one `itself`."""
    place = real(out)
    for folder in filter(is_ours, [place, *place.parents] if itself else place.parents):
        how = "is" if folder == place else f"lies in {folder},"
        raise GatedVAEError(f"{out} cannot be written.", f"It {how} a store or a run.", "Choose a folder of its own.")


def refuse_links(folder: Path, places: Iterable[Path]) -> None:
    """Raise `GatedVAEError` where links lead elsewhere than to the place in `folder` that is named."""
    for place in places:
        if real(place) != real(folder) / place.relative_to(folder):
            remedy = "Remove that link, then run the same command again."
            raise GatedVAEError(f"{place} cannot be used.", "A link leads to where it lies.", remedy)


def check_name(path: Path) -> None:
    """Raise `GatedVAEError` for the path of a store or a run that Arrow cannot open: no UTF-8, or with a shell's ~."""
    if (whole := os.path.expanduser(path)) != os.fspath(path):  # noqa: PTH111  pathlib's raises where there is no such user
        raise GatedVAEError(f"{path} cannot be used.", "The shell has not replaced its ~.", f"Write {whole}.")
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError:
        raise GatedVAEError(f"{path} cannot be used.", "Its path is not UTF-8.", "Rename it, or use another.") from None


def refuse_filled(out: Path, what: str) -> None:
    """Raise `GatedVAEError` where a folder, which is not yet `what` it is to become, holds more than hidden files."""
    if out.exists() and any(not entry.name.startswith(".") for entry in out.iterdir()):
        raise GatedVAEError(f"{out} is not empty.", f"It holds files, but no {what}.", "Choose a new or empty folder.")


def is_ours(folder: Path) -> bool:
    """Whether a folder is a store or a run; other programs have a config.json, too."""
    for name in _MANIFESTS:
        with suppress(GatedVAEError):
            if "schema_version" in read_json(folder / name, ""):
                return True
    return False


def digest(*parts: bytes | str) -> str:
    """SHA-256 over length-prefixed parts, as ``sha256:<hex>``."""
    hasher = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        hasher.update(len(data).to_bytes(8, "little") + data)
    return f"sha256:{hasher.hexdigest()}"


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, as ``sha256:<hex>``."""
    with open_binary(path) as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold `folder` (created if missing) for this process alone.

    The kernel drops the lock when the process ends, however it ends, so a killed command leaves nothing to clean up.
    """
    check_name(folder)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        handle = os.open(folder / ".lock", _OWN, 0o644)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise GatedVAEError(f"{folder} cannot be used.", "Its .lock is a link.", "Remove that link.") from None
    try:
        with naming(folder):
            _lock(handle, f"{folder} is in use by another process.", "Wait for it to finish, or choose another folder.")
        yield
    finally:
        os.close(handle)


def _lock(handle: int, taken: str, remedy: str) -> None:
    """Lock an open file until it is closed; raise `GatedVAEError` when another process has locked it."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise
        raise GatedVAEError(taken, "", remedy) from None
