// The speaker view shows this page in two frames: the present slide and the upcoming one.
const query = new URLSearchParams(location.search);
const mirrored = query.has("receiver") && query.get("controls") !== "false";
const PAGE = 0.8; // of the frame; some lines stay to read on from
const LINE = 120; // pixels
const FIGURE = 560; // pixels, as in deck.css
const SMALL_FIGURE = 340; // pixels
const COLUMNS = 88; // of code and printed text at their usual size
const SMALL_TEXT = 75; // % of the usual size

function slide() {
  return Reveal.getCurrentSlide();
}

// What happens in the speaker view happens on the projected slide.
function tell(what) {
  if (mirrored) window.parent.opener?.postMessage(what, "*");
}

function share() {
  tell({ deckScroll: slide().scrollTop });
}

function overflows() {
  const boxes = [slide(), ...slide().querySelectorAll(".jp-RenderedHTML")];
  return boxes.some((box) => box.scrollHeight > box.clientHeight + 1 || box.scrollWidth > box.clientWidth + 1);
}

// The sizes of a slide are planned without a browser: what is too tall shrinks, to a limit.
function fit() {
  for (const pre of slide().querySelectorAll("pre")) {
    const longest = Math.max(...pre.textContent.split("\n").map((line) => line.length));
    pre.style.fontSize = longest > COLUMNS ? `${0.7 * Math.max(0.75, COLUMNS / longest)}em` : "";
  }
  const figures = [...slide().querySelectorAll("img")];
  slide().style.fontSize = "";
  for (const figure of figures) figure.style.maxHeight = "";
  for (let tall = FIGURE; figures.length && overflows() && tall > SMALL_FIGURE; tall -= 20)
    for (const figure of figures) figure.style.maxHeight = `${tall}px`;
  for (let size = 100; overflows() && size > SMALL_TEXT; size -= 5)
    slide().style.fontSize = `${size - 5}%`;
}

// The stub of an exercise, and its solution.
function answer(shown) {
  slide().classList.toggle("solved", shown);
  fit();
  tell({ deckAnswer: slide().classList.contains("solved") });
}

function scroll(pixels) {
  slide().scrollBy(0, pixels);
  share();
}

// A tall slide is read to its end before the next one comes; the same backwards.
function down(pixels, turn) {
  const left = slide().scrollHeight - slide().clientHeight - slide().scrollTop;
  return left > 2 ? scroll(pixels) : turn();
}

function up(pixels, turn) {
  return slide().scrollTop > 2 ? scroll(-pixels) : turn();
}

function page() {
  return PAGE * slide().clientHeight;
}

const forward = () => down(page(), () => Reveal.next());
const back = () => up(page(), () => Reveal.prev());

Reveal.initialize({
  width: 1280,
  height: 720,
  margin: 0.02,
  center: false,
  hash: true,
  slideNumber: "c/t",
  transition: "none",
  defaultTiming: 0, // seconds; the slides have their own, and the speaker view shows what is left
  plugins: [RevealNotes],
  // Enter and Space open what has the focus.
  keyboardCondition: (event) =>
    ![13, 32].includes(event.keyCode) || !document.activeElement?.closest("summary, a, button"),
  keyboard: {
    32: (event) => (event.shiftKey ? back() : forward()), // Space
    65: () => answer(), // A
    33: back, // Page up
    34: forward, // Page down, which is what a clicker sends
    38: () => up(LINE, () => Reveal.up()),
    40: () => down(LINE, () => Reveal.down()),
  },
});

Reveal.registerKeyboardShortcut("A", "Solution of the exercise");

Reveal.on("ready", fit);
Reveal.on("slidechanged", (event) => {
  event.currentSlide.scrollTo(0, 0);
  fit();
});

document.addEventListener("scroll", share, true); // the wheel
window.addEventListener("message", (event) => {
  if (event.data?.deckScroll !== undefined) slide().scrollTop = event.data.deckScroll;
  if (event.data?.deckAnswer !== undefined) answer(event.data.deckAnswer);
});
