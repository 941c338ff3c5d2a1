"""Why a run fails, as a person is told it."""

from sweepwise.anchor import named

OUT_OF_MEMORY = "out of memory"
TOLD = "told"  # a note on an exception: the person knows


class Failure(RuntimeError):
    """Something that one line explains better than a traceback; the program ends with exit code 1."""


def reason(error: BaseException) -> str:
    """An exception in one line; with a way out, where it is known."""
    text = named(error).strip().partition("\n")[0]
    if isinstance(error, MemoryError) or "out of memory" in text or "can't allocate memory" in text:
        detail = f" ({text})" if text else ""
        return (
            f"{OUT_OF_MEMORY}{detail}: a smaller data.batch_size needs less, and so does "
            "trainer.accumulate=2, which passes each batch in two pieces"
        )
    return f"{type(error).__name__}: {named(error)}".strip(": ")


def explained(error: Exception) -> Failure | None:
    """What to raise in the place of an exception, if its reason says all."""
    why = reason(error)
    return Failure(why) if why.startswith(OUT_OF_MEMORY) else None
