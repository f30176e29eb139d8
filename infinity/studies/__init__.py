"""Studies: a claim of the paper as a grid of trainings and evaluations, with a rule that was written down before.

A page in ``examples/studies`` says what is compared (``study.py``) with the building blocks of ``world.py``.
``running.py`` runs the cells that are not done yet, ``judging.py`` gives the verdict. May import everything below the
command line. Start with ``study.py``.
"""

from infinity.reporting.study import PaperFigure
from infinity.studies.study import Arms, Contrast, PowerLaw, Study, better, same, slope
from infinity.studies.world import World

__all__ = ["Arms", "Contrast", "PaperFigure", "PowerLaw", "Study", "World", "better", "same", "slope"]
