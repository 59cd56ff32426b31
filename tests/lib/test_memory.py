"""Peaks are seen, and the last cell of a notebook gives its memory back."""

import time

import nbclient
import nbformat
import pytest
import torch

from workbook import memory

HOLD = {
    "a name": "weights = torch.ones(125_000_000)",
    "Out": "torch.ones(125_000_000)",
    "a cycle": """
class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weights, self.parts = torch.nn.Parameter(torch.ones(125_000_000)), [self]
model = Model()""",
    "an error": """
def fail():
    weights = torch.ones(125_000_000)
    raise ValueError("no")
fail()""",
}
MEASURE = "from workbook import memory\nprint(memory.resident_gb())"


@pytest.mark.slow
@pytest.mark.parametrize("way", HOLD)
def test_memory_comes_back_however_it_is_held(way):
    texts = ["import torch", MEASURE, HOLD[way], MEASURE, "memory.free_notebook()", MEASURE]
    cells = [nbformat.v4.new_code_cell(text) for text in texts]
    cells[2].metadata["tags"] = ["raises-exception"]
    notebook = nbformat.v4.new_notebook(cells=cells)
    nbclient.NotebookClient(notebook, kernel_name="python3", timeout=300).execute()
    before, held, after = (float(cells[i].outputs[0].text) for i in (1, 3, 5))
    assert held > before + 0.45  # the half gigabyte is there
    assert after < before + 0.1
    assert cells[4].outputs[0].text.startswith("0.5 GB given back, ")
    assert [cell.execution_count for cell in cells] == [1, 2, 3, 4, 5, 6]
    assert "weights" not in str(cells[5].outputs)


def test_what_is_small_stays_and_the_next_cells_run():
    texts = [
        "import torch\nrows = [1, 2]\ndef answer(): return rows\nrows",
        "class Held:\n    deep = None\nheld, few = Held(), torch.ones(10)",
        "held.deep = {'a': [torch.ones(10**6)]}",
        "from workbook import memory",
        "memory.free_notebook()",
        "print('held' in globals(), answer(), few.sum().item(), len(Out), '_1' in globals())",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in texts])
    nbclient.NotebookClient(notebook, kernel_name="python3", timeout=300).execute()
    assert notebook.cells[5].outputs[0].text == "False [1, 2] 10.0 0 False\n"


def test_a_peak_of_this_process_is_seen_after_it_has_passed():
    torch.ones(10)  # what is loaded at first use
    before = memory.resident_gb()
    with memory.peak_memory(memory.resident_gb, seconds=0.01) as peak:
        held = torch.ones(100_000_000)
        time.sleep(0.1)
        del held
        time.sleep(0.1)
    assert 0.35 < peak.gb - before < 0.6
