// Keeps the page up to date without loading it again: fetches it and puts the new parts in place.
// Without JavaScript a meta refresh does the same, more roughly.
"use strict";

(() => {
  const every = Number(document.body.dataset.refresh) * 1000;
  const parts = () => document.querySelectorAll("[data-live]");
  // A form somebody is filling in is left alone.
  const inUse = (part) => [...part.querySelectorAll("input:not([type=hidden])")].some((each) => each.value || each === document.activeElement);
  let failures = 0;

  async function refresh() {
    if (document.hidden || document.getSelection().toString()) return;
    const answer = await fetch(location.pathname + location.search, { headers: { Accept: "text/html" }, credentials: "same-origin" });
    if (answer.redirected || answer.status === 401 || answer.status === 403) return location.assign("/sign-in");
    if (!answer.ok) throw new Error(String(answer.status));
    const news = new DOMParser().parseFromString(await answer.text(), "text/html");
    const open = new Map([...document.querySelectorAll("details[id]")].map((each) => [each.id, each.open]));
    const scrolled = [...document.querySelectorAll(".scroll")].map((each) => each.scrollLeft);
    const focused = document.activeElement && document.activeElement.closest("details[id]");
    for (const part of parts()) {
      const fresh = news.querySelector(`[data-live="${part.dataset.live}"]`);
      if (fresh && !inUse(part)) part.replaceWith(document.adoptNode(fresh));
    }
    for (const [id, was] of open) {
      const each = document.getElementById(id);
      if (each) each.open = was;
    }
    document.querySelectorAll(".scroll").forEach((each, index) => (each.scrollLeft = scrolled[index] || 0));
    if (focused) document.getElementById(focused.id)?.querySelector("summary").focus({ preventScroll: true });
  }

  async function again() {
    try {
      await refresh();
      failures = 0;
    } catch {
      failures += 1;
    }
    const lost = document.querySelector(".lost");
    if (lost) lost.hidden = failures < 2;
    setTimeout(again, every);
  }

  setTimeout(again, every);
})();
