"""An active-learning strategy for the MONAI Label server: the scan that the bundle is least sure of comes first.

MONAI Label's `monaibundle` app has a fixed list of strategies and takes none from a bundle. So `prepare_app` puts this
file into the server's copy of the app, which ends in a call of :func:`extend`. It needs nothing of the bundle.
"""

import logging
from collections.abc import Mapping
from typing import Any

logger = logging.getLogger(__name__)

STRATEGY, SCORE = "least_certain", "mean_certainty"
"""The score, in the info of an image: mean soft Dice of the organs found, 0 if none was."""


class LeastCertain:
    """Offers the unlabelled image of the lowest score; images without a score follow those with one, by name."""

    def info(self) -> dict[str, str]:
        """Say what it does, to clients."""
        return {"description": "The scan with the lowest soft Dice; segment scans first, one by one or as a batch"}

    def __call__(self, request: Mapping[str, Any], datastore: Any) -> dict[str, Any] | None:
        """Choose an image; None if all are labelled."""
        images = datastore.get_unlabeled_images(request.get("label_tag"), request.get("labels"))
        scores = {image: datastore.get_image_info(image).get(SCORE) for image in images}
        order = sorted(images, key=lambda image: (scores[image] is None, scores[image] or 0.0, image))
        return {"id": order[0], SCORE: scores[order[0]]} if order else None


def score_of(answer: Mapping[str, Any]) -> float | None:
    """Score of a scan by the parameters that inference answers with: on the same scale before and after fine-tuning."""
    values = answer.get("soft_dice")
    return None if values is None else float(sum(values.values()) / max(1, len(values)))


def extend(app: type[Any]) -> None:
    """Give a MONAI Label app the strategy, and make its inference note the score of each image of its datastore."""
    strategies, infer = app.init_strategies, app.infer

    def init_strategies(self: Any) -> dict[str, Any]:
        return {STRATEGY: LeastCertain(), **strategies(self)}

    def infer_and_score(self: Any, request: Mapping[str, Any], datastore: Any = None) -> Any:
        answer, image = infer(self, request, datastore), request.get("image")
        score = score_of(answer.get("params") or {})
        if score is not None and isinstance(image, str):
            try:
                (datastore or self.datastore()).update_image_info(image, {SCORE: score})
            except Exception as error:  # a path, or an image of an archive that knows no such info: no score is kept
                logger.warning("%s: no score is kept (%s)", image, error)
        return answer

    app.init_strategies, app.infer = init_strategies, infer_and_score
