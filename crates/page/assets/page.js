// Keeps the parts of a page up to date. Without it the pages work as well.
"use strict";

(() => {
  const line = document.getElementById("live");
  if (!line || !window.EventSource) return;
  const say = (text) => {
    if (line.textContent !== text) line.textContent = text;
  };
  const waiting = new Map();

  // What somebody is using at this moment is not taken away under their hands.
  const inUse = (part) => {
    const active = document.activeElement;
    return active && active !== document.body && part.contains(active);
  };

  const put = (name, html) => {
    const part = document.querySelector(`[data-part="${CSS.escape(name)}"]`);
    if (!part) return;
    if (inUse(part)) {
      waiting.set(name, html);
      return;
    }
    waiting.delete(name);
    // The server escapes whatever comes from the library; this page's policy allows no script in it either.
    const fresh = document.createRange().createContextualFragment(html);
    const open = new Set([...part.querySelectorAll("details[open] > summary")].map((s) => s.textContent));
    for (const summary of fresh.querySelectorAll("details > summary")) {
      if (open.has(summary.textContent)) summary.parentElement.open = true;
    }
    const scrolled = [...part.querySelectorAll(".wide")].map((box) => box.scrollLeft);
    part.replaceChildren(fresh);
    part.querySelectorAll(".wide").forEach((box, n) => { box.scrollLeft = scrolled[n] ?? 0; });
    if (name === "safe") {
      const state = part.querySelector(".state");
      if (state) document.title = `${state.textContent.replace(/:\s*$/, "")} · Haven`;
    }
  };

  document.addEventListener("focusout", () => {
    setTimeout(() => {
      for (const [name, html] of [...waiting]) put(name, html);
    }, 0);
  });

  let events = null;
  let again = null;
  const listen = () => {
    clearTimeout(again);
    if (events) events.close();
    const page = location.pathname + location.search;
    events = new EventSource(`/events?page=${encodeURIComponent(page)}`);
    events.addEventListener("hello", () => say("Live: this page keeps itself up to date."));
    events.addEventListener("part", (event) => {
      const { part, html } = JSON.parse(event.data);
      put(part, html);
    });
    events.addEventListener("over", () => {
      events.close();
      say("Not live: you are logged out.");
    });
    events.addEventListener("error", () => {
      say("Not live: the keeper does not answer. Trying again.");
      // Where the browser has given up (an answer that is no stream) we have not.
      if (events.readyState === EventSource.CLOSED) later();
    });
  };
  // A keeper that was started anew knows no session any more: it sends everybody to the login.
  const later = () => {
    fetch(location.href, { redirect: "manual" }).then(
      (answer) => {
        if (answer.type === "opaqueredirect") say("Not live: you are logged out. Load the page again.");
        else again = setTimeout(listen, 5000);
      },
      () => { again = setTimeout(listen, 5000); },
    );
  };
  listen();
  // Pages in the background listen to nothing, and phones sleep.
  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState === "visible") {
      if (!events || events.readyState === EventSource.CLOSED) listen();
    } else if (events) {
      events.close();
      clearTimeout(again);
    }
  });
  window.addEventListener("pagehide", () => events && events.close());
})();
