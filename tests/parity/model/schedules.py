"""Replay of the table of scale schedules (goldens README, section 7)."""

from __future__ import annotations

from infinity.scales import ASPECT_RATIOS, SIZES, nearest_aspect_ratio, published_schedule
from tests.parity.case import PN_OF_SIZE
from tests.parity.ledger import Ledger


def replay_schedules(ledger: Ledger) -> None:
    """Every ratio and size of the table, and nothing else in it."""
    about = ledger.case.about
    stride, times = int(about["vae_stride"]), about["temporal_t_list"]
    ledger.number("template_order", list(ASPECT_RATIOS), about["template_order"])
    ledger.number("table ratios", sorted(ASPECT_RATIOS), sorted(float(ratio) for ratio in about["table"]))
    for ratio, sizes in about["table"].items():
        ledger.number(f"table.{ratio} sizes", sorted(PN_OF_SIZE.values()), sorted(sizes))
        for size in SIZES:
            schedule = published_schedule(float(ratio), size)
            lengths = [h * w for h, w in schedule.grids]
            found = {
                "pixel_hw": list(schedule.image_size_px(16)),
                "scales_t_h_w": [[t, h, w] for t, (h, w) in zip(times, schedule.grids, strict=False)],
                "seq_len_images_t1": schedule.num_tokens,
                "seq_len_per_scale_t1": lengths,
                "num_scales": schedule.num_scales,
            }
            pn = PN_OF_SIZE[size]
            entry = sizes.get(pn, {})
            ledger.number(f"table.{ratio}.{pn} fields", sorted(found), sorted(entry))
            for name, value in found.items():
                if name in entry:
                    ledger.number(f"table.{ratio}.{pn}.{name}", value, entry[name])
            ledger.require(nearest_aspect_ratio(*schedule.last_grid) == float(ratio), f"nearest of {ratio}")
    longest = max((len(s["scales_t_h_w"]) for sizes in about["table"].values() for s in sizes.values()), default=0)
    ledger.number("temporal_t_list length", len(times), longest)
    ledger.number("vae_stride", 16, stride)
