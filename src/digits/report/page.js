// Which of the pages is shown, and whether light or dark.

let keepFocus = false,
  last = null;
function route() {
  const [page, ...rest] = location.hash
    .replace(/^#\/?/, "")
    .split("/")
    .map((part) => {
      try {
        return decodeURIComponent(part);
      } catch {
        return part;
      }
    });
  if (last === "runs") board.scroll = scrollAt;
  drawn.clear();
  const made =
    page === "run"
      ? runPage(rest[0])
      : page === "compare"
        ? comparePage(rest[0], rest[1])
        : page === "labels"
          ? labelsPage()
          : runsPage();
  const held = keepFocus && document.activeElement && document.activeElement.getAttribute("aria-label");
  main.replaceChildren(...made.nodes.flat(3).filter(Boolean));
  drawn.forEach((redraw) => redraw());
  document.title = `${made.title} · digits`;
  const name = ["run", "compare", "labels"].includes(page) ? page : "runs";
  for (const link of document.querySelectorAll("nav a")) {
    if (link.dataset.page === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (held) main.querySelector(`[aria-label="${held}"]`)?.focus({ preventScroll: true });
  else {
    if (last !== null) main.querySelector("h1")?.focus({ preventScroll: true });
    scrollTo(0, name === "runs" && last !== null ? board.scroll : 0);
  }
  keepFocus = false;
  last = name;
}
let scrollAt = 0;
addEventListener(
  "scroll",
  () => {
    if (last === "runs" && !/^#\/(run|compare|labels)/.test(location.hash)) scrollAt = scrollY;
  },
  { passive: true },
);
addEventListener("hashchange", route);
document.querySelector("a.skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address says which page is shown, and that stays
  main.focus();
});
addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || event.defaultPrevented || event.target.matches("input[type=search], select")) return;
  if (last !== "runs") location.hash = "#/";
});

const themeButton = document.getElementById("theme");
const dark = matchMedia("(prefers-color-scheme: dark)");
const remembered = () => {
  try {
    return localStorage.getItem("digits-theme");
  } catch {
    return null;
  }
};
function paint() {
  const theme = remembered() || (dark.matches ? "dark" : "light");
  document.documentElement.dataset.theme = theme;
  themeButton.textContent = theme === "dark" ? "Light" : "Dark";
  themeButton.setAttribute("aria-label", theme === "dark" ? "Show the report light" : "Show the report dark");
}
themeButton.addEventListener("click", () => {
  const next = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  try {
    localStorage.setItem("digits-theme", next);
  } catch {
    /* then it is not remembered */
  }
  paint();
  if (document.documentElement.dataset.theme !== next) document.documentElement.dataset.theme = next;
});
dark.addEventListener("change", paint);

document.getElementById("foot").textContent = content.foot;
paint();
route();
