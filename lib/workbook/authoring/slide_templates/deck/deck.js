// The speaker view shows this page in two frames: the present slide and the upcoming one.
const query = new URLSearchParams(location.search);
const mirrored = query.has("receiver") && query.get("controls") !== "false";
const PAGE = 0.8; // of the frame; some lines stay to read on from
const LINE = 120; // pixels

function slide() {
  return Reveal.getCurrentSlide();
}

// Scrolling in the speaker view scrolls the projected slide.
function share() {
  if (mirrored) window.parent.opener?.postMessage({ deckScroll: slide().scrollTop }, "*");
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
    33: back, // Page up
    34: forward, // Page down, which is what a clicker sends
    38: () => up(LINE, () => Reveal.up()),
    40: () => down(LINE, () => Reveal.down()),
  },
});

Reveal.on("slidechanged", (event) => event.currentSlide.scrollTo(0, 0));

document.addEventListener("scroll", share, true); // the wheel
window.addEventListener("message", (event) => {
  if (event.data?.deckScroll !== undefined) slide().scrollTop = event.data.deckScroll;
});
