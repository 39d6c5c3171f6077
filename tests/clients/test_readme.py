"""The README's shell blocks, run as a newcomer would: one after the other, in one shell, at the top of the repository.

Run is every ```sh block with `<!-- tested -->` on the line before it.
"""

import contextlib
import os
import re
import signal
import subprocess
from pathlib import Path

from gate import ROOT, TARGET, WRIT

BLOCK = re.compile(r"^<!-- tested -->\n+```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SECONDS = 600


def test_the_tested_blocks_of_the_readme_run(tmp_path: Path) -> None:
    blocks = BLOCK.findall((ROOT / "README.md").read_text())
    assert blocks, "README.md marks no block with <!-- tested -->"
    script = "set -euo pipefail\n" + "\n".join(blocks)
    env = os.environ | {
        "CARGO_TARGET_DIR": str(TARGET),
        "PATH": f"{WRIT.parent}:{os.environ['PATH']}",
        "WRIT_HOME": str(tmp_path / "writ"),
    }
    with (tmp_path / "output").open("w+") as output:
        # A session of its own, so that a gate left in the background ends with the shell.
        shell = subprocess.Popen(
            ["bash", "-xc", script], cwd=ROOT, env=env, stdout=output, stderr=output, start_new_session=True
        )
        try:
            code = shell.wait(timeout=SECONDS)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGKILL)
            shell.wait()
        output.seek(0)
        assert code == 0, output.read()
