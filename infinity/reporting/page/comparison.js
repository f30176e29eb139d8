// Shows one prompt at a time; without it the first one is shown.
const prompts = [...document.querySelectorAll("article.prompt")];
const slide = document.getElementById("slide");
if (slide) {
  const place = document.getElementById("place");
  const show = (at) => {
    const next = Math.min(Math.max(at, 0), prompts.length - 1);
    slide.value = next;
    prompts.forEach((prompt, index) => { prompt.hidden = index !== next; });
    place.textContent = `${next + 1} of ${prompts.length}`;
  };
  slide.addEventListener("input", () => show(Number(slide.value)));
  document.getElementById("back").addEventListener("click", () => show(Number(slide.value) - 1));
  document.getElementById("on").addEventListener("click", () => show(Number(slide.value) + 1));
  document.addEventListener("keydown", (event) => {
    if (event.target === slide) return;
    if (event.key === "ArrowLeft") show(Number(slide.value) - 1);
    if (event.key === "ArrowRight") show(Number(slide.value) + 1);
  });
  show(0);
}
