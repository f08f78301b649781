// The page: asks for the panels, draws each, and asks again. Polls while it is seen.
//
// Each panel is asked for by itself: one that takes long is asked for less often and holds up none of the others. The list of panels
// is the sign of life: while it does not come, nothing else is asked for, and the page says since when what it shows is old.
"use strict";

(() => {
  const EVERY_MS = 5000;
  const AGAIN_MS_MAX = 10000;
  const ANSWER_MS_MAX = 20000;
  const OLD_MS = 30000;
  const AHEAD_MS = 60000;
  // Browsers open six connections to a server: one stays free for the list and the numbers above.
  const AT_ONCE = 5;
  const TABLE_ROWS_MAX = 200;
  const TITLE_CHARS_MIN = 30;
  const TITLE_CHARS_MAX = 2000;

  const $ = (id) => document.getElementById(id);
  const cards = new Map();
  let revision = null;
  // When the server last answered, since when it does not, and when it is asked again.
  let seen = null;
  let downSince = null;
  let failures = 0;
  let againAt = 0;
  let timer = null;
  let beating = null;
  let healthSeen = false;

  class Refused extends Error {
    constructor(error) {
      super(error.what ?? "the server refused");
      Object.assign(this, { why: error.why, next: error.next });
    }
  }

  // Numbers with more digits than JavaScript holds keep their digits beside them, where the browser gives them.
  const exactly = (_, value, context) => {
    const text = typeof value === "number" ? context?.source : undefined;
    if (!text || text.replace(/e.*$/i, "").replace(/\D/g, "").replace(/^0+/, "").length <= 15) return value;
    return Object.assign(Object(value), { digits: text });
  };

  const get = async (path, revive) => {
    const response = await fetch(path, { headers: { Accept: "application/json" }, signal: AbortSignal.timeout(ANSWER_MS_MAX) });
    const body = JSON.parse(await response.text(), revive);
    if (!response.ok) throw new Refused(body.error ?? {});
    return body;
  };

  // Marks that turn the direction of what follows, and such as cannot be seen, are shown as what they are.
  const MARKS = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2064\u2066-\u2069\ufeff\ufff9-\ufffb]/g;
  const visible = (text) => text.replace(MARKS, (mark) => `\\u{${mark.codePointAt(0).toString(16)}}`);
  const legible = (value) => {
    if (typeof value === "string") return visible(value);
    if (Array.isArray(value)) return value.map(legible);
    if (value === null || typeof value !== "object" || value.digits) return value;
    return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, legible(inner)]));
  };

  // --- one panel -------------------------------------------------------------------------------------------------

  const build = (panel) => {
    const card = $("card").content.firstElementChild.cloneNode(true);
    card.id = `panel-${panel.name}`;
    card.classList.add(panel.chart, "loading");
    card.classList.toggle("wide", panel.wide);
    card.dataset.state = "loading";
    card.setAttribute("aria-label", visible(panel.title));
    card.querySelector("h2").textContent = visible(panel.title);
    card.querySelector(".about").textContent = [panel.about, panel.unit && `in ${panel.unit}`].filter(Boolean).map(visible).join(" · ");
    const it = {
      panel, card, data: null, table: panel.chart === "table", at: null, failed: false, tookMs: 0, answers: 0, timer: null,
      plot: card.querySelector(".plot"), rows: card.querySelector(".rows"), say: card.querySelector(".say"), button: card.querySelector(".as-table"),
      age: card.querySelector(".age"),
    };
    it.plot.hidden = it.table;
    it.rows.hidden = !it.table;
    it.rows.setAttribute("aria-label", `${visible(panel.title)}, as a table`);
    it.button.setAttribute("aria-label", `Table: ${visible(panel.title)}`);
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
    it.say.querySelector("strong").textContent = visible(what ?? "");
    it.say.querySelector("span").textContent = visible(more ?? "");
  };

  const STATES = {
    running: "good", done: "good", succeeded: "good", ok: "good", stopped: "warn", skipped: "warn", retrying: "warn",
    failing: "bad", silent: "bad", failed: "bad",
  };
  const cell = (column, value) => {
    const td = document.createElement("td");
    if (value === null || value === undefined) {
      td.append(Object.assign(document.createElement("span"), { className: "null", textContent: "–" }));
    } else if (column.name === "state" || column.name === "status") {
      td.append(Object.assign(document.createElement("span"), { className: `state ${STATES[value] ?? ""}`, textContent: value }));
    } else if (column.number) {
      td.textContent = Charts.shown(value, column.exact);
    } else {
      td.textContent = column.time ? Charts.time(value).replace(/\.\d+$/, "") : typeof value === "object" ? JSON.stringify(value) : value;
      // What is cut off can be read when pointed at.
      if (td.textContent.length > TITLE_CHARS_MIN) td.title = td.textContent.slice(0, TITLE_CHARS_MAX);
    }
    if (column.number) td.className = "number";
    return td;
  };

  const timeline = (panel) => ["line", "area"].includes(panel.chart);

  const tabulate = (it) => {
    const { columns, rows } = it.data;
    const table = document.createElement("table");
    table.createCaption().textContent = visible(it.panel.title);
    const head = table.createTHead().insertRow();
    const names = Charts.labels(columns.map((column) => column.name));
    for (const column of columns) {
      const th = document.createElement("th");
      th.scope = "col";
      th.textContent = visible(names.get(column.name));
      if (column.number) th.className = "number";
      head.append(th);
    }
    const body = table.createTBody();
    // Of a time line the newest rows matter.
    const shown = timeline(it.panel) ? rows.slice(-TABLE_ROWS_MAX).reverse() : rows.slice(0, TABLE_ROWS_MAX);
    for (const row of shown) body.insertRow().append(...columns.map((column) => cell(column, row[column.name])));
    const { scrollTop, scrollLeft } = it.rows;
    it.rows.replaceChildren(table);
    it.rows.scrollTo(scrollLeft, scrollTop);
  };

  const show = (it) => {
    const { state, tables, rows, columns } = it.data;
    it.card.classList.remove("loading");
    it.card.dataset.state = state;
    if (state === "missing") return say(it, "", "Nothing here yet", `${tables.join(", ")} ${tables.length > 1 ? "do" : "does"} not exist yet`);
    if (state === "empty") return say(it, "", it.panel.chart === "table" ? "No rows" : "Nothing here yet", it.panel.chart === "table" ? "" : "A window is counted when it is over: a minute or so after the start");
    say(it, "", null);
    if (it.table) tabulate(it);
    else {
      Charts.draw(it.plot, it.panel, rows, columns);
      it.plot.setAttribute("aria-label", `${visible(it.panel.title)}: ${it.panel.chart} chart of ${rows.length} rows; the button beside the title shows them as a table`);
    }
    if (it.data.truncated) say(it, "over", "Too many rows", `the ${timeline(it.panel) ? "newest" : "first"} ${rows.length.toLocaleString("en")} are shown: a panel has at most ${it.data.cut_at}`);
  };

  // NaN and the infinities come beside the rows, where JSON has null.
  const taken = (data) => {
    for (const [column, at] of Object.entries(data.not_finite ?? {})) for (const [row, name] of Object.entries(at)) data.rows[row][column] = name;
    // Names of columns stay: they are how values are found.
    for (const row of data.rows ?? []) for (const name of Object.keys(row)) row[name] = legible(row[name]);
    return data;
  };

  const refresh = async (it) => {
    const began = Date.now();
    try {
      it.data = taken(await get(`/panels/${encodeURIComponent(it.panel.name)}`, exactly));
      Object.assign(it, { at: Date.now(), failed: false });
      if (it.data.state === "ready" && Charts.learn(it.panel, it.data.rows)) redraw();
      else drawn(it);
    } catch (error) {
      it.failed = true;
      it.card.classList.remove("loading");
      const refused = error instanceof Refused;
      // What was drawn before stays; a word below it says that it is old.
      const old = it.data?.state === "ready";
      if (!old) it.card.dataset.state = "error";
      const more = refused ? [error.why, error.next].filter(Boolean).join(" – ") : "the server does not answer; trying again";
      say(it, old ? "bad over" : "bad", refused ? error.message : "No answer", more);
      if (!refused) beat();
    }
    it.tookMs = Date.now() - began;
    it.answers += 1;
    it.card.dataset.answers = String(it.answers);
    aged(it);
  };

  const drawn = (it) => {
    try {
      show(it);
    } catch (error) {
      say(it, "bad", "These rows cannot be drawn", `${error.message}; the query's columns may not be what the chart needs`);
    }
  };

  const due = [];
  let asking = 0;
  const ask = () => {
    while (downSince === null && !document.hidden && asking < AT_ONCE && due.length) {
      const it = due.shift();
      if (cards.get(it.panel.name) !== it) continue;
      asking += 1;
      refresh(it).finally(() => {
        asking -= 1;
        // One that took long rests longer.
        it.timer = setTimeout(() => later(it), Math.max(EVERY_MS, 3 * it.tookMs));
        turned();
        ask();
      });
    }
  };
  const later = (it) => {
    due.push(it);
    ask();
  };

  // How many times everything has been asked for.
  const turned = () => {
    const least = Math.min(...[...cards.values()].map((it) => it.answers), healthSeen ? Infinity : 0);
    document.documentElement.dataset.rounds = String(Number.isFinite(least) ? least : 1);
  };

  // --- the page --------------------------------------------------------------------------------------------------

  const span = (ms) => {
    if (ms === null) return "–";
    const s = Math.max(0, ms) / 1000;
    if (s < 90) return `${s < 10 ? s.toFixed(1) : Math.round(s)} s`;
    return s < 5400 ? `${Math.round(s / 60)} min` : s < 172800 ? `${Math.round(s / 3600)} h` : `${Math.round(s / 86400)} days`;
  };
  const ago = (ms) => span(ms).replace(/\.\d/, "");
  const clock = (ms) => new Date(ms).toISOString().slice(11, 19);
  const count = (n) => (n >= 10000 ? Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 }).format(n) : n.toLocaleString("en"));
  const put = (id, text, kind) => Object.assign($(id), { textContent: text, className: kind ?? "" });

  const health = async () => {
    const { rows = [] } = await get("/pipelines");
    const running = rows.filter((row) => row.state === "running").length;
    const broken = rows.some((row) => STATES[row.state] === "bad");
    const most = (name) => rows.reduce((best, row) => (row[name] === null ? best : Math.max(best ?? 0, row[name])), null);
    const sum = (name) => rows.reduce((total, row) => total + (row[name] ?? 0), 0);
    const behind = running ? most("watermark_lag_ms") : null;
    // Beyond what clocks differ by: its rows are from the future, which the pipeline that is furthest behind must not hide.
    const ahead = running ? Math.max(...rows.map((row) => -(row.watermark_lag_ms ?? 0))) : 0;
    put("pipelines", rows.length ? `${running} of ${rows.length} run` : "none yet", !rows.length ? "" : running === rows.length ? "good" : running && !broken ? "warn" : "bad");
    if (ahead > AHEAD_MS) put("behind", `${span(ahead)} ahead`, "warn");
    else put("behind", span(behind), behind === null ? "" : behind < 120000 ? "good" : "warn");
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
    for (const it of cards.values()) clearTimeout(it.timer);
    cards.clear();
    due.length = 0;
    for (const panel of answer.panels) cards.set(panel.name, build(panel));
    $("panels").replaceChildren(...[...cards.values()].map((it) => it.card));
    $("panels").setAttribute("aria-busy", "false");
    $("notice").hidden = answer.panels.length > 0;
    $("notice").textContent = "This project defines no panels: add CREATE PANEL statements to it and run watershed apply.";
    due.push(...cards.values());
  };

  const aged = (it) => {
    const age = it.at === null ? null : Date.now() - it.at;
    const old = age !== null && age > Math.max(OLD_MS, 4 * it.tookMs) && !document.hidden;
    it.age.hidden = age === null || !(old || it.failed || downSince !== null);
    it.card.classList.toggle("old", old);
    if (!it.age.hidden) it.age.textContent = `as of ${clock(it.at)}, ${ago(age)} ago`;
  };

  // What the page says of itself, each second.
  const tell = () => {
    const down = downSince !== null;
    $("fresh").className = `fresh ${down ? "bad" : seen ? "good" : ""}`;
    const age = seen === null ? null : ago(Date.now() - seen);
    $("fresh-text").textContent = down ? `no answer${age ? ` for ${age}` : ""}` : age === null ? "loading" : `updated ${age} ago`;
    const said = down ? `No answer from the server since ${clock(seen ?? downSince)} UTC; what is shown is of before` : "";
    // Spoken by a screen reader, so it changes only when it has to.
    if ($("down-text").textContent !== said) $("down-text").textContent = said;
    $("down").classList.toggle("shown", down);
    $("again").textContent = `Try now (${beating ? "asking" : `next in ${Math.max(0, Math.ceil((againAt - Date.now()) / 1000))} s`})`;
    $("health").classList.toggle("old", down || !healthSeen);
    for (const it of cards.values()) aged(it);
  };

  const heard = async () => {
    arrange(await get("/panels"));
    seen = Date.now();
    failures = 0;
    downSince = null;
    ask();
    try {
      await health();
      healthSeen = true;
    } catch (error) {
      // The server is busy, perhaps: its numbers are old, not the page.
      if (!(error instanceof Refused)) throw error;
      healthSeen = false;
    }
    turned();
  };

  // Looks whether the server is there, and what it has.
  const beat = () => {
    if (document.hidden || beating) return;
    clearTimeout(timer);
    beating = heard()
      .catch((error) => {
        failures += 1;
        if (!(error instanceof Refused)) downSince ??= Date.now();
      })
      .finally(() => {
        beating = null;
        const wait = downSince === null ? EVERY_MS : Math.min(1000 * 2 ** (failures - 1), AGAIN_MS_MAX);
        againAt = Date.now() + wait;
        timer = setTimeout(beat, wait);
        tell();
      });
  };

  document.addEventListener("visibilitychange", () => {
    beat();
    ask();
  });
  window.addEventListener("online", beat);
  $("again").addEventListener("click", beat);
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  window.matchMedia("(max-width: 760px)").addEventListener("change", redraw);
  function redraw() {
    for (const it of cards.values()) if (it.data) drawn(it);
  }
  setInterval(tell, 1000);
  beat();
})();
