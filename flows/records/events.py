"""What flows tell the rest of the world: the deployment of ``evaluate`` waits for new models (prefect.yaml)."""

from prefect.events import emit_event

from infinity import storage
from infinity.checkpoint import MARKER_FILE

MODEL_TRAINED = "infinity.model.trained"


def announce_model(run: str, model: str) -> None:
    """Announce that a training has written a model, which is to be scored.

    Args:
        run: The run it belongs to, as `folder_of` understands it.
        model: URI of the model folder.
    """
    digest = storage.read_text(storage.join(model, MARKER_FILE)).strip()
    emit_event(
        event=MODEL_TRAINED,
        resource={"prefect.resource.id": f"infinity.model.{digest}", "prefect.resource.name": f"{run}: {digest}"},
        payload={"run": run, "model": model},
    )
