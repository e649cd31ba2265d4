"""Every path of a run directory. Nothing else in the package joins a run's path.

The layout is described in docs/run-directory.md, and a test holds the two together.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["FORMAT_VERSION", "RunPaths", "SlidePaths"]

FORMAT_VERSION = 3


@dataclass(frozen=True)
class SlidePaths:
    """Files of one slide of a run."""

    root: Path

    @property
    def lookup(self) -> Path:
        """Cells of the tissue bounding box, with their tissue flags and groups."""
        return self.root / "lookup.h5"

    @property
    def grid_picture(self) -> Path:
        """Thumbnail with the grid drawn on it."""
        return self.root / "grid.png"

    @property
    def stain_picture(self) -> Path:
        """Some cells before and after stain normalization."""
        return self.root / "stain.png"

    @property
    def groups(self) -> Path:
        """Pixels of all groups."""
        return self.root / "groups.h5"

    @property
    def summary(self) -> Path:
        """Numbers of groups, patches and windows; exists once grouping is complete."""
        return self.root / "summary.json"

    @property
    def slide_scores(self) -> Path:
        """Scores of all groups; there once the slide is stitched."""
        return self.root / "scores.h5"

    @property
    def scores(self) -> Path:
        """Folder of the groups' scores, while there is no file of all."""
        return self.root / "scores"

    def group_scores(self, group: int) -> Path:
        """Scores of one group."""
        return self.scores / f"{group:06d}.h5"

    @property
    def heatmap(self) -> Path:
        """The stitched heatmap with its pyramid."""
        return self.root / "heatmap.h5"

    @property
    def overview(self) -> Path:
        """Heatmap in colour over the thumbnail."""
        return self.root / "overview.png"

    @property
    def lesions_csv(self) -> Path:
        """Lesions as a table."""
        return self.root / "lesions.csv"

    @property
    def lesions_geojson(self) -> Path:
        """Lesions as outlines."""
        return self.root / "lesions.geojson"


@dataclass(frozen=True)
class RunPaths:
    """Files of a run."""

    root: Path

    @property
    def run_file(self) -> Path:
        """The request: slides, model, settings, provenance. It exists from the plan on."""
        return self.root / "run.json"

    @property
    def model_folder(self) -> Path:
        """The model's own copy and its descriptor."""
        return self.root / "model"

    @property
    def descriptor(self) -> Path:
        """The model's descriptor."""
        return self.model_folder / "descriptor.json"

    @property
    def program(self) -> Path:
        """The model as a list of steps, which tasks load and do faster."""
        return self.model_folder / "program.npz"

    @property
    def traced_model(self) -> Path:
        """A copy of a ``.pt2`` model that tasks load faster."""
        return self.model_folder / "traced.pt"

    @property
    def lookup_csv(self) -> Path:
        """Slides with their first and last group."""
        return self.root / "lookup.csv"

    def slide(self, slide_id: str) -> SlidePaths:
        """Files of one slide."""
        return SlidePaths(self.root / "slides" / slide_id)

    @property
    def tasks(self) -> Path:
        """Folder of task records."""
        return self.root / "tasks"

    def task(self, name: str) -> Path:
        """What one task did."""
        return self.tasks / f"{name}.json"

    def slide_tasks(self, slide_id: str) -> Path:
        """What the tasks of a slide that is done did, a line each."""
        return self.tasks / f"{slide_id}.jsonl"

    @property
    def failures(self) -> Path:
        """Folder of failures; empty where all is well."""
        return self.root / "failures"

    def failure(self, name: str) -> Path:
        """Why one piece of work failed."""
        return self.failures / f"{name}.json"

    @property
    def jobs(self) -> Path:
        """Folder of submitted jobs: pickles, so its owner's alone."""
        return self.root / "jobs"

    def reviews(self, slide_id: str) -> Path:
        """Folder of a slide's reviews, one journal a writer."""
        return self.root / "reviews" / slide_id

    @property
    def exports(self) -> Path:
        """Results in the formats of other programs, one folder a format."""
        return self.root / "exports"

    @property
    def master(self) -> Path:
        """Who works on the run now."""
        return self.root / "master.json"

    @property
    def master_log(self) -> Path:
        """What a detached master printed."""
        return self.root / "master.log"

    @property
    def launch(self) -> Path:
        """Where and how the run was launched last."""
        return self.root / "launch.json"

    @property
    def cancelled(self) -> Path:
        """Exists while the run is cancelled."""
        return self.root / "cancelled"
