// Before the first paint, so that a page in the other theme does not flash.
(() => {
  const chosen = localStorage.getItem("voxdex.theme");
  const dark = chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = dark ? "dark" : "light";
})();
