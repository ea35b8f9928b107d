/* Keeps pages alive: events fetch the regions they concern anew (htmx), ages count on, keys move about. */
"use strict";
(() => {
  const body = document.body;
  const $ = (selector, root = document) => root.querySelector(selector);
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];

  // --- regions -------------------------------------------------------------------------------------------------
  const GAP_MS = 700;
  const fetched = new Map(), waiting = new Map(), missed = new Set();
  let known = Number(body.dataset.change) || 0;

  function renew(element) {
    const id = element.id;
    if (document.hidden) { missed.add(id); return; }
    if (waiting.has(id)) return;
    const wait = Math.max(30 + Math.random() * 90, (fetched.get(id) || 0) + (Number(element.dataset.gap) || GAP_MS) - Date.now());
    waiting.set(id, setTimeout(() => {
      waiting.delete(id);
      fetched.set(id, Date.now());
      const now = document.getElementById(id);
      if (now) htmx.trigger(now, "live");
    }, wait));
  }
  const renewAll = () => all("[data-live]").forEach(renew);
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) return;
    missed.forEach((id) => { const element = document.getElementById(id); if (element) renew(element); });
    missed.clear();
    age();
  });

  function concerned(kind, data) {
    const instrument = data.facility + "/" + data.instrument;
    if (kind === "run") return ["run:" + instrument + "/" + data.run, "instrument:" + instrument, "now:" + instrument, "runs"];
    if (kind === "instrument") return ["now:" + instrument, "now"];
    if (kind === "service") return ["services"];
    if (kind === "plot") return ["plot:" + data.instrument + "/" + data.run];
    return [];
  }
  const isPlot = (key) => key.startsWith("plot:");

  function onEvent({ kind, id, data }) {
    if (kind === "hello") {
      if (data.id > known) renewAll();
    } else {
      const keys = concerned(kind, data);
      for (const element of all("[data-live]"))
        if (element.dataset.live.split(" ").some((key) => keys.includes(key) || (kind === "plots" && isPlot(key)))) renew(element);
    }
    if (kind !== "plot" && id > known) known = id;
  }

  // --- the live mark -------------------------------------------------------------------------------------------
  const mark = $("#live"), banner = $("#banner");
  const clock = (ms) => new Date(ms).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });
  function onState({ state, since }) {
    mark.dataset.state = state;
    const words = { live: "live", connecting: "connecting", reconnecting: "reconnecting", stale: "stale since " + clock(since) };
    $("span", mark).textContent = words[state];
    mark.title = state === "live" ? "Changes appear by themselves" : "What you see was true at " + clock(since);
    banner.hidden = state !== "stale";
    banner.textContent = state === "stale" ? "The database is away. What you see was true at " + clock(since) + "; it goes on by itself." : "";
    if (state === "live") loaded = Date.now();
  }
  let loaded = Date.now();
  const receive = (message) => (message.kind ? onEvent(message) : onState(message));

  function listen() {
    if (window.SharedWorker) {
      const worker = new SharedWorker(body.dataset.worker, { name: "neutronflow" });
      worker.port.onmessage = (event) => receive(event.data);
      window.addEventListener("pagehide", () => worker.port.postMessage("bye"));
      worker.onerror = alone;
    } else alone();
  }
  function alone() {
    if (window.followEvents) return;
    const script = document.createElement("script");
    script.src = body.dataset.worker;
    script.onload = () => window.followEvents(receive);
    document.head.append(script);
  }
  listen();
  window.addEventListener("pageshow", (event) => { if (event.persisted) { listen(); renewAll(); } });

  // --- what a swap must not lose: open details, how far a log is scrolled -----------------------------------------------------------------
  let opened = [], scrolled = [];
  document.addEventListener("htmx:beforeSwap", () => {
    opened = all("details[data-keep][open]").map((each) => each.id);
    scrolled = all(".lines").map((lines) => [lines.parentElement.id, lines.scrollTop]).filter(([id, top]) => id && top);
  });
  // Not later than the swap itself: before the page has settled, the next swap may have begun.
  document.addEventListener("htmx:afterSwap", (event) => {
    opened.forEach((id) => { const each = document.getElementById(id); if (each) each.open = true; });
    scrolled.forEach(([id, top]) => { const lines = document.querySelector("#" + id + " > .lines"); if (lines) lines.scrollTop = top; });
    // What a log of a failure has to say stands at its end.
    const failure = event.target.closest("details[data-failed]") && $(".lines", event.target);
    if (failure && !location.hash.includes("-L")) failure.scrollTop = failure.scrollHeight;
  });
  document.addEventListener("htmx:afterSettle", () => { age(); toLine(); });
  document.addEventListener("htmx:responseError", (event) => {
    if (event.detail.xhr.status === 401) location.reload();
  });

  // --- ages ----------------------------------------------------------------------------------------------------
  const STEPS = [[60, "s", 1], [3600, "min", 60], [86400, "h", 3600], [31536000, "d", 86400], [Infinity, "y", 31536000]];
  function ageText(seconds) {
    if (seconds < 5) return "just now";
    const [, unit, by] = STEPS.find(([below]) => seconds < below);
    return Math.floor(seconds / by) + " " + unit + " ago";
  }
  function lastsText(seconds) {
    if (seconds < 120) return Math.max(0, Math.floor(seconds)) + " s";
    const minutes = Math.floor(seconds / 60);
    return minutes < 60 ? minutes + " min " + Math.floor(seconds % 60) + " s" : Math.floor(minutes / 60) + " h " + (minutes % 60) + " min";
  }
  function age() {
    for (const element of all("time[data-lasts]")) {
      const text = lastsText((Date.now() - Date.parse(element.dateTime)) / 1000);
      if (element.textContent !== text) element.textContent = text;
    }
    for (const element of all("time[data-age]")) {
      const seconds = (Date.now() - Date.parse(element.dateTime)) / 1000;
      const stale = seconds > (Number(element.dataset.stale) || Infinity);
      const text = stale ? "stale since " + element.dataset.clock : ageText(seconds);
      if (element.dataset.stale) element.classList.toggle("stale", stale);
      if (element.textContent !== text) element.textContent = text;
    }
  }
  age();
  setInterval(() => { if (!document.hidden) age(); }, 1000);

  // --- theme ---------------------------------------------------------------------------------------------------
  $("#theme").addEventListener("click", () => {
    const dark = matchMedia("(prefers-color-scheme: dark)").matches;
    const now = document.documentElement.dataset.theme || (dark ? "dark" : "light");
    const next = now === "dark" ? "light" : "dark";
    document.documentElement.dataset.theme = next;
    document.cookie = "nf-theme=" + next + ";path=/;max-age=31536000;samesite=lax" + (location.protocol === "https:" ? ";secure" : "");
  });

  // --- logs: a line has an address -----------------------------------------------------------------------------
  let sought = "";
  function toLine() {
    const hash = location.hash.slice(1);
    if (sought === hash) return;
    const log = document.getElementById(hash);
    if (log && log.matches("details.log")) { sought = hash; log.open = true; }
    const found = /^([a-z_]+)-L(\d+)$/.exec(hash);
    if (!found) return;
    const line = document.getElementById(hash);
    if (line) {
      sought = hash;
      all(".lines .marked").forEach((each) => each.classList.remove("marked"));
      line.classList.add("marked");
      line.scrollIntoView({ block: "center" });
    } else {
      const details = $('details.log[data-step="' + found[1] + '"]');
      if (details) details.open = true;
    }
  }
  window.addEventListener("hashchange", () => { sought = ""; toLine(); });
  toLine();
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-log-end]");
    if (!button) return;
    const lines = button.closest(".log").querySelector(".lines");
    if (lines.scrollHeight > lines.clientHeight) lines.scrollTop = lines.scrollHeight;
    else lines.lastElementChild?.scrollIntoView({ block: "end" });
  });

  // --- plots say how high they are; they are strangers, so only a number in bounds is heard ----------------------
  window.addEventListener("message", (event) => {
    const frame = $("iframe.frame"), height = Number(event.data && event.data.plotHeight);
    if (frame && event.source === frame.contentWindow && height > 100)
      frame.height = String(Math.min(Math.ceil(height) + 8, 1600)), frame.classList.add("fitted");
  });

  // A live picture is not loaded anew: its frame gets what is to be drawn.
  document.addEventListener("live-plot", async (event) => {
    const region = $("#plot"), frame = $("iframe.frame"), since = $(".plot-head time", region);
    if (!frame) return;
    const answer = await fetch(region.dataset.figure, { credentials: "same-origin" }).catch(() => null);
    if (!answer || !answer.ok) return;
    frame.contentWindow.postMessage({ figure: await answer.json().catch(() => null) }, "*");
    if (since) since.dateTime = event.detail.at, age();
  });

  // --- keys ----------------------------------------------------------------------------------------------------
  const help = $("#help"), keysOn = $("#keys-on");
  keysOn.checked = localStorage.getItem("nf-keys") !== "off";
  keysOn.addEventListener("change", () => localStorage.setItem("nf-keys", keysOn.checked ? "on" : "off"));
  $("#help-open").addEventListener("click", () => help.showModal());

  function row(step) {
    const links = all("tr[data-row]").map((each) => $("a", each));
    const at = links.findIndex((link) => link.closest("tr").contains(document.activeElement));
    const next = links[at < 0 ? (step > 0 ? 0 : links.length - 1) : at + step];
    if (next) { next.focus(); next.scrollIntoView({ block: "nearest" }); }
    return links.length > 0;
  }
  const go = (selector) => { const link = $(selector); if (link) link.click(); };
  const KEYS = {
    j: () => row(1) || go("[data-older]"),
    k: () => row(-1) || go("[data-newer]"),
    l: () => { const logs = all("details.log"), open = logs.every((each) => each.open); logs.forEach((each) => { each.open = !open; }); logs[0]?.scrollIntoView({ block: "nearest" }); },
    g: () => { location.href = "/instruments/"; },
    "/": () => { const field = $("[data-search]"); if (field) { field.focus(); field.select(); } else location.href = "/instruments/"; },
    "?": () => help.showModal(),
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !keysOn.checked || help.open) return;
    if (event.target.closest("input, textarea, select, [contenteditable]")) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    const action = KEYS[event.key];
    if (action) { event.preventDefault(); action(); }
  });
})();
