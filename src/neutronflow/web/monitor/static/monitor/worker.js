/* The one stream of events that all tabs of a browser share. Without shared workers, each page runs it for itself. */
"use strict";
(() => {
  const KINDS = ["hello", "run", "instrument", "service", "plot", "plots", "away", "beat"];
  const SILENCE_MS = 25000;

  function follow(tell) {
    let source = null, last = 0, heard = Date.now(), state = "connecting", since = Date.now();
    const become = (next) => {
      if (next === state) return;
      if (state === "live") since = Date.now();
      state = next;
      tell({ state, since });
    };
    const connect = () => {
      if (source) source.close();
      heard = Date.now();
      source = new EventSource("/events" + (last ? "?after=" + last : ""));
      source.onerror = () => {
        become("reconnecting");
        // Refused (logged out, server going down): the browser does not try again by itself.
        if (source.readyState === EventSource.CLOSED) setTimeout(connect, 3000 + Math.random() * 2000);
      };
      for (const kind of KINDS) source.addEventListener(kind, (event) => {
        heard = Date.now();
        const id = Number(event.lastEventId) || 0;
        if (kind !== "plot" && id > last) last = id;
        if (kind === "away") return become("stale");
        if (kind === "hello") become("live");
        if (kind !== "beat") tell({ kind, id, data: JSON.parse(event.data) });
      });
    };
    setInterval(() => {
      if (Date.now() - heard > SILENCE_MS && source.readyState !== EventSource.CLOSED) { become("reconnecting"); connect(); }
    }, 5000);
    connect();
    return () => ({ state, since, last });
  }

  if (typeof SharedWorkerGlobalScope !== "undefined" && self instanceof SharedWorkerGlobalScope) {
    const ports = new Set();
    let now = null;
    self.onconnect = (event) => {
      const port = event.ports[0];
      ports.add(port);
      port.onmessage = (message) => { if (message.data === "bye") ports.delete(port); };
      if (!now) now = follow((message) => ports.forEach((each) => each.postMessage(message)));
      const { state, since, last } = now();
      port.postMessage({ state, since });
      // A page that was made before what is known here has to look again.
      if (state === "live") port.postMessage({ kind: "hello", id: last, data: { id: last } });
    };
  } else {
    window.followEvents = follow;
  }
})();
