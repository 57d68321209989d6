"""The random state that all of a process shares: who sets it, draws from it and puts it back holds it meanwhile."""

from __future__ import annotations

import threading

HELD = threading.RLock()  # damaged features are computed again by the thread that reads them, while another one trains
