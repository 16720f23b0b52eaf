"""The examples in each command's help, by the words that name the command.

A test parses every one of them.
"""

from collections.abc import Mapping

EXAMPLES: Mapping[str, tuple[str, ...]] = {
    "backends": (
        "lstm-bench backends",
        "lstm-bench backends --plugin mine.py --json",
    ),
    "suites": (
        "lstm-bench suites",
        "lstm-bench suites quick",
    ),
    "plan": (
        "lstm-bench plan quick",
        "lstm-bench plan --hidden 64:512:x2 --batch 1,16 --backend numba_cpu,aten",
    ),
    "run": (
        "lstm-bench run quick",
        "lstm-bench run --hidden 128,256 --seq-len 64 --bidirectional --against aten",
        "lstm-bench run --layers 2 --pass train --batch-first --autocast bfloat16 --dropout 0.3",
        "lstm-bench run --plugin mine.py --backend mine,aten --time-budget 60 --out my-run",
        "lstm-bench run --resume my-run",
        "lstm-bench run --plugin mine.py --backend mine --hidden 256 --watch",
    ),
    "verify": (
        "lstm-bench verify quick --backend naive,aten",
        "lstm-bench verify --plugin mine.py --backend mine --lengths uniform:1:32 --seq-len 32",
    ),
    "fleet": (
        "lstm-bench fleet quick",
        "lstm-bench fleet quick --engine ray --accelerator-type H100 --out my-run",
        "lstm-bench fleet quick --engine slurm --device cuda --sbatch partition=gpu",
        "lstm-bench fleet quick --until 1% --budget 3600",
        "lstm-bench fleet --resume my-run",
    ),
    "capture": (
        "lstm-bench capture -- python train.py --lr 0.1",
        "lstm-bench capture -o mine.toml -- python -m mine",
    ),
    "recommend": (
        "lstm-bench recommend captured.toml",
        "lstm-bench recommend --hidden 256 --batch 1 --pass inference",
        "lstm-bench recommend --run my-run",
    ),
    "inspect": (
        "lstm-bench inspect triton --arch sm_80,sm_90",
        "lstm-bench inspect numba_cuda --hidden 256 --cell gru --json",
    ),
    "phases": (
        "lstm-bench phases numba_cpu",
        "lstm-bench phases hoisted --hidden 128 --batch 16 --pass train --threads 1 --json",
    ),
    "limits": (
        "lstm-bench limits",
        "lstm-bench limits --device cpu --threads 1 --hidden 256",
    ),
    "tune": (
        "lstm-bench tune numba_cuda",
        "lstm-bench tune triton --hidden 128,256 --batch 1 --time-budget 300",
    ),
    "train": (
        "lstm-bench train --list",
        "lstm-bench train japanese-vowels --backend numba_cpu,aten",
        "lstm-bench train char-lm --text book.txt --budget 120 --seeds 1",
    ),
    "gradients": (
        "lstm-bench gradients",
        "lstm-bench gradients --cell lstm,gru --seq-len 200 --html gradients.html",
    ),
    "report": (
        "lstm-bench report my-run",
        "lstm-bench report base-run new-run --verdicts -o comparison.html",
        "lstm-bench report results/runs --site public",
    ),
    "view": (
        "lstm-bench view",
        "lstm-bench view my-run --port 8000 --no-browser",
    ),
    "compare": (
        "lstm-bench compare base-run new-run",
        "lstm-bench compare base-run new-run --explain 'aten T128 forward'",
    ),
    "check": (
        "lstm-bench check my-run --baseline main",
        "lstm-bench check my-run --baseline main --margin 0.1 --markdown comment.md",
    ),
    "baseline save": ("lstm-bench baseline save my-run main",),
    "baseline list": (
        "lstm-bench baseline list",
        "lstm-bench baseline list --into baselines --json",
    ),
    "ab": (
        "lstm-bench ab main",
        "lstm-bench ab v1.0 v1.1 --suite quick --backend numba_cpu",
        "lstm-bench ab main --plugin mine.py --hidden 64 --batch 1,8",
        "lstm-bench ab main --suite quick --engine local --device cuda",
        "lstm-bench ab v1.0 v1.1 --suite quick --engine slurm --sbatch partition=gpu --out my-ab",
        "lstm-bench ab --resume my-ab",
    ),
    "selftest": (
        "lstm-bench selftest",
        "lstm-bench selftest --suite quick --backend numba_cpu,aten --blocks 12",
    ),
    "history": (
        "lstm-bench history results/runs",
        "lstm-bench history results/runs --case 'T128 B1 forward' --html history.html",
    ),
    "publish": ("lstm-bench publish my-run s3://lab/store/my-run",),
    "merge": ("lstm-bench merge half-a half-b --out whole",),
    "query": (
        "lstm-bench query",
        "lstm-bench query 'select backend, min(median_ns) from records group by backend'",
        "lstm-bench query 'from runs order by started' --store my-store --csv",
    ),
    "export": (
        "lstm-bench export my-run --format csv -o my-run.csv",
        "lstm-bench export my-run --format pytest-benchmark -o my-run.json",
    ),
    "import": ("lstm-bench import benchmark.json -o my-run",),
}
