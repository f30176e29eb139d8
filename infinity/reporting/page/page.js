// Shows the values of a chart under the pointer; the charts are complete without it.
for (const frame of document.querySelectorAll(".frame")) {
  const { x, unit, lines } = JSON.parse(frame.dataset.chart);
  const tip = Object.assign(document.createElement("div"), { className: "tip", hidden: true });
  const cursor = Object.assign(document.createElement("div"), { className: "cursor", hidden: true });
  frame.append(cursor, tip);
  frame.addEventListener("pointerleave", () => { tip.hidden = cursor.hidden = true; });
  frame.addEventListener("pointermove", (event) => {
    const box = frame.getBoundingClientRect();
    const share = (event.clientX - box.left) / box.width;
    if (share < 0 || share > 1) { tip.hidden = cursor.hidden = true; return; }
    const at = x[0] + share * (x[1] - x[0]);
    const near = lines.map(({ label, points }) => {
      const point = points.reduce((a, b) => (Math.abs(b[0] - at) < Math.abs(a[0] - at) ? b : a));
      return { label, point };
    });
    tip.textContent = `step ${Math.round(near[0].point[0])}: ` + near.map(({ label, point }) => `${label} ${point[1]}${unit ? " " + unit : ""}`).join(", ");
    tip.hidden = cursor.hidden = false;
    cursor.style.left = `${share * 100}%`;
    tip.style.left = share < 0.6 ? `${share * 100 + 1}%` : "auto";
    tip.style.right = share < 0.6 ? "auto" : `${(1 - share) * 100 + 1}%`;
  });
}
