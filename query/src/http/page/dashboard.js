// The page: asks for the panels, draws each, and asks again. Polls while it is seen; waits longer after each failure.
"use strict";

(() => {
  const EVERY_MS = 5000;
  const EVERY_MS_MAX = 60000;
  const ANSWER_MS_MAX = 20000;
  const AT_ONCE = 3;
  const TABLE_ROWS_MAX = 200;

  const $ = (id) => document.getElementById(id);
  const cards = new Map();
  let revision = null;
  let failures = 0;
  let timer = null;
  let round = null;
  let seen = null;

  class Refused extends Error {
    constructor(error) {
      super(error.what ?? "the server refused");
      Object.assign(this, { why: error.why, next: error.next });
    }
  }

  const get = async (path) => {
    const response = await fetch(path, { headers: { Accept: "application/json" }, signal: AbortSignal.timeout(ANSWER_MS_MAX) });
    const body = await response.json();
    if (!response.ok) throw new Refused(body.error ?? {});
    return body;
  };

  // --- one panel -------------------------------------------------------------------------------------------------

  const build = (panel) => {
    const card = $("card").content.firstElementChild.cloneNode(true);
    card.id = `panel-${panel.name}`;
    card.classList.add(panel.chart, "loading");
    card.classList.toggle("wide", panel.wide);
    card.dataset.state = "loading";
    card.querySelector("h2").textContent = panel.title;
    card.querySelector(".about").textContent = [panel.about, panel.unit && `in ${panel.unit}`].filter(Boolean).join(" · ");
    const it = {
      panel, card, data: null, table: panel.chart === "table",
      plot: card.querySelector(".plot"), rows: card.querySelector(".rows"), say: card.querySelector(".say"), button: card.querySelector(".as-table"),
    };
    it.plot.hidden = it.table;
    it.rows.hidden = !it.table;
    it.rows.setAttribute("aria-label", `${panel.title}, as a table`);
    it.button.addEventListener("click", () => {
      it.table = !it.table;
      it.button.setAttribute("aria-pressed", String(it.table));
      it.plot.hidden = it.table;
      it.rows.hidden = !it.table;
      if (it.data) show(it);
    });
    return it;
  };

  const say = (it, kind, what, more) => {
    it.say.hidden = !what;
    it.say.className = `say ${kind}`;
    it.say.querySelector("strong").textContent = what ?? "";
    it.say.querySelector("span").textContent = more ?? "";
  };

  const STATES = { running: "good", done: "good", succeeded: "good", ok: "good", stopped: "warn", skipped: "warn", silent: "bad", failed: "bad", retrying: "warn" };
  const cell = (column, value) => {
    const td = document.createElement("td");
    if (value === null || value === undefined) {
      td.append(Object.assign(document.createElement("span"), { className: "null", textContent: "–" }));
    } else if (column.name === "state" || column.name === "status") {
      td.append(Object.assign(document.createElement("span"), { className: `state ${STATES[value] ?? ""}`, textContent: value }));
    } else if (column.number) {
      td.textContent = Number(value).toLocaleString("en", { maximumFractionDigits: 3 });
    } else {
      td.textContent = column.time ? Charts.time(value).replace(/\.\d+$/, "") : typeof value === "object" ? JSON.stringify(value) : value;
    }
    if (column.number) td.className = "number";
    return td;
  };

  const tabulate = (it) => {
    const { columns, rows } = it.data;
    const table = document.createElement("table");
    const head = table.createTHead().insertRow();
    for (const column of columns) {
      const th = document.createElement("th");
      th.scope = "col";
      th.textContent = Charts.words(column.name);
      if (column.number) th.className = "number";
      head.append(th);
    }
    const body = table.createTBody();
    // Of a time line the newest rows matter.
    const shown = ["line", "area"].includes(it.panel.chart) ? rows.slice(-TABLE_ROWS_MAX).reverse() : rows.slice(0, TABLE_ROWS_MAX);
    for (const row of shown) body.insertRow().append(...columns.map((column) => cell(column, row[column.name])));
    const { scrollTop, scrollLeft } = it.rows;
    it.rows.replaceChildren(table);
    it.rows.scrollTo(scrollLeft, scrollTop);
  };

  const show = (it) => {
    const { state, tables, rows } = it.data;
    it.card.classList.remove("loading");
    it.card.dataset.state = state;
    if (state === "missing") return say(it, "", "Nothing here yet", `${tables.join(", ")} ${tables.length > 1 ? "do" : "does"} not exist yet`);
    if (state === "empty") return say(it, "", it.panel.chart === "table" ? "No rows" : "Nothing here yet", it.panel.chart === "table" ? "" : "A window is counted when it is over: a minute or so after the start");
    say(it, "", null);
    if (it.table) tabulate(it);
    else {
      Charts.draw(it.plot, it.panel, rows);
      it.plot.setAttribute("aria-label", `${it.panel.title}: ${it.panel.chart} chart of ${rows.length} rows; the button beside the title shows them as a table`);
    }
    if (it.data.truncated) say(it, "over", "Too many rows", `the ${it.data.kept} ${rows.length.toLocaleString("en")} are shown`);
  };

  const refresh = async (it) => {
    try {
      it.data = await get(`/panels/${encodeURIComponent(it.panel.name)}`);
      show(it);
      return true;
    } catch (error) {
      it.card.classList.remove("loading");
      const refused = error instanceof Refused;
      // What was drawn before stays; a word below it says that it is old.
      const old = it.data?.state === "ready";
      if (!old) it.card.dataset.state = "error";
      const more = refused ? [error.why, error.next].filter(Boolean).join(" – ") : "the server does not answer; trying again";
      say(it, old ? "bad over" : "bad", refused ? error.message : "No answer", more);
      return refused;
    }
  };

  // --- the page --------------------------------------------------------------------------------------------------

  const span = (ms) => {
    if (ms === null) return "–";
    const s = Math.max(0, ms) / 1000;
    if (s < 90) return `${s < 10 ? s.toFixed(1) : Math.round(s)} s`;
    return s < 5400 ? `${Math.round(s / 60)} min` : s < 172800 ? `${Math.round(s / 3600)} h` : `${Math.round(s / 86400)} days`;
  };
  const count = (n) => (n >= 10000 ? Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 }).format(n) : n.toLocaleString("en"));
  const put = (id, text, kind) => Object.assign($(id), { textContent: text, className: kind ?? "" });

  const health = async () => {
    const { rows = [] } = await get("/pipelines");
    const running = rows.filter((row) => row.state === "running").length;
    const most = (name) => rows.reduce((best, row) => (row[name] === null ? best : Math.max(best ?? 0, row[name])), null);
    const sum = (name) => rows.reduce((total, row) => total + (row[name] ?? 0), 0);
    const behind = running ? most("watermark_lag_ms") : null;
    put("pipelines", rows.length ? `${running} of ${rows.length} run` : "none yet", !rows.length ? "" : running === rows.length ? "good" : running ? "warn" : "bad");
    put("behind", span(behind), behind === null ? "" : behind < 120000 ? "good" : "warn");
    put("lag", count(sum("lag_records")));
    put("aside", count(sum("late") + sum("quarantined")));
  };

  const arrange = (answer) => {
    const place = decodeURIComponent(answer.warehouse.replace("file://", "")).replace(/\/$/, "");
    // Right-to-left cutting keeps the end of a path; the mark keeps its first slash in place.
    $("place").textContent = `\u200e${place}`;
    $("place").title = place;
    const text = JSON.stringify(answer.panels);
    if (text === revision) return;
    revision = text;
    cards.clear();
    for (const panel of answer.panels) cards.set(panel.name, build(panel));
    $("panels").replaceChildren(...[...cards.values()].map((it) => it.card));
    $("panels").setAttribute("aria-busy", "false");
    $("notice").hidden = answer.panels.length > 0;
    $("notice").textContent = "This project defines no panels: add CREATE PANEL statements to it and run watershed apply.";
  };

  const lookAll = async () => {
    arrange(await get("/panels"));
    const queue = [...cards.values()];
    let well = true;
    const worker = async () => {
      for (let it = queue.shift(); it; it = queue.shift()) well = (await refresh(it)) && well;
    };
    await Promise.all([health(), ...Array.from({ length: AT_ONCE }, worker)]);
    if (!well) throw new Error("panels without an answer");
  };

  const fresh = () => {
    const late = failures > 0;
    $("fresh").className = `fresh ${late ? "bad" : seen ? "good" : ""}`;
    const age = seen === null ? null : span(Date.now() - seen).replace(/\.\d/, "");
    $("fresh-text").textContent = late ? `no answer${age ? ` for ${age}` : ""}` : age === null ? "loading" : `updated ${age} ago`;
  };

  const turn = async () => {
    clearTimeout(timer);
    try {
      await lookAll();
      failures = 0;
      seen = Date.now();
    } catch {
      failures += 1;
    }
    document.documentElement.dataset.rounds = String(Number(document.documentElement.dataset.rounds ?? 0) + 1);
    fresh();
  };

  const go = () => {
    if (document.hidden || round) return;
    round = turn().finally(() => {
      round = null;
      const wait = Math.min(EVERY_MS * 2 ** failures, EVERY_MS_MAX);
      timer = setTimeout(go, wait);
    });
  };

  document.addEventListener("visibilitychange", () => {
    clearTimeout(timer);
    go();
  });
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  window.matchMedia("(max-width: 760px)").addEventListener("change", redraw);
  function redraw() {
    for (const it of cards.values()) if (it.data) show(it);
  }
  setInterval(fresh, 1000);
  go();
})();
