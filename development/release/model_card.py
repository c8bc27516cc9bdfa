"""The model card, written from the metadata so that the two cannot disagree."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from development.release.metadata import bundle_name
from scripts.evaluation.score_tables import markdown_table

LICENCES = {"Apache License": "apache-2.0", "MIT License": "mit"}
"""Identifiers of the model hub by the words in the LICENSE file."""

USE = """\
```python
import sys
from monai.bundle import load

sys.path.insert(0, "{name}")  # the code of the networks lies in the bundle
network = load("{name}", bundle_dir=".", workflow_type="inference")
```

```bash
cd {name}
python -m monai.bundle run inference --config_file configs/inference.yaml --dataset_dir SCANS --output_dir OUT
```

`SCANS` is a NIfTI file, a folder of them, or the folder of one DICOM series. The packages are in `requirements.txt`."""


def model_card(metadata: dict[str, Any]) -> str:
    """Markdown of the card of a bundle with this metadata."""
    name = bundle_name(metadata)
    tensors = metadata["network_data_format"]
    sections = {
        "What it does": metadata["description"],
        "Use": f"{metadata.get('intended_use', '')}\n\n{USE.format(name=name)}",
        "Input": "\n".join(_tensor(key, tensor) for key, tensor in tensors["inputs"].items()),
        "Output": "\n".join(_tensor(key, tensor) for key, tensor in tensors["outputs"].items()) + _classes(tensors),
        "Data": metadata.get("data_source", ""),
        "Scores": _scores(metadata.get("eval_metrics", {})),
        "Versions": "\n".join(f"- {version}: {text}" for version, text in reversed(metadata["changelog"].items())),
        "Software": markdown_table(["package", "version"], _packages(metadata)),
        "References": "\n".join(f"- {reference}" for reference in metadata.get("references", [])),
        "Licence": f"{metadata['copyright']}. See `LICENSE`.",
    }
    body = "\n\n".join(f"## {title}\n\n{text.strip()}" for title, text in sections.items() if text.strip())
    title = f"# {metadata['name']}\n\n{metadata['task']}. Version {metadata['version']}, by {metadata['authors']}."
    return f"{title}\n\n{body}\n"


def front_matter(metadata: dict[str, Any], licence: str) -> str:
    """The YAML head by which a model hub finds the card, with the identifier of the licence of this text."""
    head = {
        "library_name": "monai",
        "license": next((name for words, name in LICENCES.items() if words in licence), "other"),
        "pipeline_tag": "image-segmentation",
        "tags": ["monai", "medical", "ct", "segmentation"],
    }
    return f"---\n{yaml.safe_dump(head, sort_keys=False)}---\n"


def licence_text(root: Path) -> str:
    """Text of the bundle's licence; FileNotFoundError if there is none."""
    path = root / "LICENSE"
    if not path.is_file():
        raise FileNotFoundError(f"no LICENSE in {root}: a bundle without one may not be used by anybody.")
    return path.read_text(encoding="utf-8")


def _tensor(key: str, tensor: dict[str, Any]) -> str:
    """One line on a tensor of the network."""
    size = " x ".join(str(number) for number in tensor["spatial_shape"])
    low, high = tensor["value_range"] if len(tensor["value_range"]) == 2 else ("any", "any")
    return (
        f"- `{key}`: {tensor.get('modality', tensor['type'])}, {tensor['format']}, {tensor['num_channels']} channels, "
        f"{tensor['dtype']}, values {low} to {high}, tried with {size} voxels"
    )


def _classes(tensors: dict[str, Any]) -> str:
    """Tables of the output's channels."""
    channels = [tensor["channel_def"].items() for tensor in tensors["outputs"].values() if tensor.get("channel_def")]
    return "".join("\n\n" + markdown_table(["class index", "name"], list(names)) for names in channels)


def _packages(metadata: dict[str, Any]) -> list[tuple[str, str]]:
    """Packages and versions that the bundle was made with."""
    own = {"monai": "monai_version", "torch": "pytorch_version", "numpy": "numpy_version"}
    return [*((name, metadata[field]) for name, field in own.items()), *metadata["required_packages_version"].items()]


def _scores(metrics: dict[str, Any]) -> str:
    """The scores of the metadata, if there are any."""
    rows = [(name, str(value)) for name, value in metrics.items()]
    return markdown_table(["score", "value"], rows) if rows else ""
