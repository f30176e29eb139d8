"""Search at drawing time at equal FLOPs: greedy, best of n, candidates with shared scales, a look at previews of more.

    python -m benchmarks.drawn.search runs/demo

The scorer is the exact detector of drawn scenes, which also judges the result: so a row says how often a right picture
is among the candidates, and what an early look is worth. FLOPs are counted, with all decoding, and without the scorer.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from torch.utils.flop_counter import FlopCounterMode

from benchmarks.measuring.scenes import SceneVerdicts, drawing_parser, in_words, sampling_of
from infinity import InfinityPipeline
from infinity.generation.drawing.search import SearchConfig, search
from infinity.generation.sampling import SamplingConfig


def flops(pipe: InfinityPipeline, sampling: SamplingConfig, config: SearchConfig) -> int:
    """Return the floating-point operations of one search."""
    with FlopCounterMode(display=False) as counter:
        search(pipe, "a photo of a red circle", lambda pictures, _: [0.0] * len(pictures), config, sampling=sampling)
    return int(counter.get_total_flops())


def within(pipe: InfinityPipeline, sampling: SamplingConfig, config: SearchConfig, budget: int) -> SearchConfig | None:
    """Return a search with as many candidates as the FLOPs of a budget pay for; None where that is fewer than two."""
    two, three = (flops(pipe, sampling, config.replace(candidates=n)) for n in (2, 3))
    candidates = 2 + (budget - two) // (three - two)
    return config.replace(candidates=candidates) if candidates >= 2 else None


def searches(
    pipe: InfinityPipeline, sampling: SamplingConfig, counts: Sequence[int], looks: Sequence[int], shares: Sequence[int]
) -> dict[str, SearchConfig]:
    """Return the searches by name that cost at most as much as n plain pictures, n one of the counts."""
    one, found = flops(pipe, sampling, SearchConfig(candidates=1)), {}
    for n in counts:
        for look in looks:
            config = within(pipe, sampling, SearchConfig(look_after=look, kept=1), n * one)
            if config is not None and config.candidates > n:
                found[f"budget {n}: look at {config.candidates} after scale {look}"] = config
        for share in shares:
            config = within(pipe, sampling, SearchConfig(shared_scales=share), n * one)
            if config is not None and n > 1:
                found[f"budget {n}: {config.candidates} candidates share {share} scales"] = config
    return found


def best_of(scores: dict[int, float], count: int) -> float:
    """Return the score of the best among the first seeds."""
    return max(scores[seed] for seed in sorted(scores)[:count])


def measure(
    pipe: InfinityPipeline,
    verdicts: SceneVerdicts,
    sampling: SamplingConfig,
    counts: Sequence[int],
    others: Mapping[str, SearchConfig],
    repeats: int,
) -> list[tuple[str, float, str]]:
    """Return a row per method: its name, its FLOPs in plain pictures, and scene-GenEval in words."""
    one = flops(pipe, sampling, SearchConfig(candidates=1))
    judged: dict[str, list[tuple[str, float]]] = defaultdict(list)
    costs = {"greedy": 1.0, **{f"best of {n}": float(n) for n in counts}}
    costs |= {name: flops(pipe, sampling, config) / one for name, config in others.items()}
    for caption in verdicts.captions:
        greedy = pipe.draw([caption], [0], sampling.replace(greedy=True), output_type="np")
        judged["greedy"].append((caption, verdicts(list(greedy.pixels()), [caption])[0]))
        for repeat in range(repeats):
            arguments = {"sampling": sampling, "seed": 1000 * repeat}
            whole = search(pipe, caption, verdicts, SearchConfig(candidates=max(counts)), **arguments)  # type: ignore[arg-type]
            scores = dict(zip(whole.seeds, whole.scores, strict=True))
            for n in counts:
                judged[f"best of {n}"].append((caption, best_of(scores, n)))
            for name, config in others.items():
                judged[name].append((caption, search(pipe, caption, verdicts, config, **arguments).score))  # type: ignore[arg-type]
    return [(name, cost, in_words(verdicts.score(judged[name]))) for name, cost in costs.items()]


def main() -> None:
    """Read the arguments, measure, and print a line per method."""
    parser = drawing_parser(__doc__, guidance=2.0, temperature=1.0)
    parser.add_argument("--counts", type=int, nargs="+", default=[1, 2, 4], help="n of best of n")
    which = "numbers of scales; all that make sense if left out, none if empty"
    parser.add_argument("--looks", type=int, nargs="*", help=f"previews after these {which}")
    parser.add_argument("--shares", type=int, nargs="*", help=f"candidates that share these {which}")
    parser.add_argument("--repeats", type=int, default=1, help="searches per caption and method")
    parser.add_argument("--per-task", type=int, help="captions per task; all 121 if left out")
    given = parser.parse_args()
    sampling = sampling_of(given)
    pipe, verdicts = InfinityPipeline.from_pretrained(given.model, device="cpu"), SceneVerdicts(given.per_task)
    scales = pipe.pipeline.config.resolution.schedule(1.0).num_scales
    looks = range(2, scales) if given.looks is None else given.looks
    shares = range(1, scales) if given.shares is None else given.shares
    others = searches(pipe, sampling, given.counts, looks, shares)
    for name, cost, words in measure(pipe, verdicts, sampling, given.counts, others, given.repeats):
        print(f"{name}: {cost:.2f} x the FLOPs of one picture, scene-GenEval {words}", flush=True)


if __name__ == "__main__":
    main()
