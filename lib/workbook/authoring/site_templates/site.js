// The site's menu, theme and search. Pages are opened from a folder, so nothing is fetched: the
// search reads SEARCH_INDEX, a list of [title, address, text], which is a script of its own.
"use strict";

const MOST = 20; // results that are shown
const AROUND = 60; // characters around what was found

function remembered() {
  try {
    return localStorage.getItem("theme");
  } catch {
    return null; // a browser that keeps nothing for pages in a folder
  }
}

function remember(theme) {
  try {
    localStorage.setItem("theme", theme);
  } catch {
    // the choice then holds for this page
  }
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
}

function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

function find(query) {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  if (!words.length) return null;
  return SEARCH_INDEX.map(([title, place, text]) => {
    const head = title.toLowerCase();
    const body = text.toLowerCase();
    const score = words.map((word) => 20 * head.includes(word) + body.split(word).length - 1);
    const first = body.indexOf(words.find((word) => body.includes(word)));
    return { title, place, text, first, length: words[0].length, score };
  })
    .filter(({ score }) => score.every(Boolean))
    .sort((a, b) => sum(b.score) - sum(a.score))
    .slice(0, MOST);
}

function sum(numbers) {
  return numbers.reduce((a, b) => a + b, 0);
}

function excerpt({ text, first }) {
  const start = Math.max(0, first - AROUND);
  const stop = start + 2 * AROUND;
  return (start ? "…" : "") + text.slice(start, stop) + (stop < text.length ? "…" : "");
}

function page(place) {
  const [name] = place.split("#");
  return document.querySelector(`#contents > ul > li > a[href="${name}"]`).textContent;
}

function item(found) {
  const link = document.createElement("a");
  const line = document.createElement("span");
  const entry = document.createElement("li");
  link.href = found.place;
  link.textContent = found.title;
  link.append(Object.assign(document.createElement("small"), { textContent: page(found.place) }));
  line.textContent = excerpt(found);
  entry.append(link, line);
  return entry;
}

function search(query) {
  const found = find(query);
  const status = document.getElementById("found");
  status.textContent = found && !found.length ? status.dataset.none : "";
  document.getElementById("results").replaceChildren(...(found ?? []).map(item));
}

function openMenu(wanted) {
  document.body.classList.toggle("menu-open", wanted);
  document.getElementById("menu").setAttribute("aria-expanded", String(wanted));
}

if (remembered()) setTheme(remembered());

addEventListener("DOMContentLoaded", () => {
  const query = document.getElementById("query");
  query.addEventListener("input", () => search(query.value));
  document.getElementById("theme").addEventListener("click", () => {
    const theme = isDark() ? "light" : "dark";
    setTheme(theme);
    remember(theme);
  });
  document.getElementById("menu").addEventListener("click", () => {
    openMenu(!document.body.classList.contains("menu-open"));
  });
  document.getElementById("contents").addEventListener("click", (event) => {
    if (event.target.closest("a")) openMenu(false);
  });
});
