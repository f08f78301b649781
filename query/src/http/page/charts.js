// Rows to pictures. Each function gives Plotly's traces and layout for one panel; dashboard.js puts them on the page.
//
// Plotly reads tags, entities and %{…} in every text it is given: whatever comes from data or definitions goes through `plain` first.
"use strict";

window.Charts = (() => {
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const theme = () => ({
    ink: css("--ink"), soft: css("--soft"), faint: css("--faint"), grid: css("--grid"), line: css("--line"),
    surface: css("--surface"), low: css("--low"), high: css("--high"),
    series: [1, 2, 3, 4, 5, 6, 7, 8].map((n) => css(`--s${n}`)),
  });
  // Lines differ in dash as well as in colour, for eyes that do not tell colours apart.
  const DASHES = ["solid", "solid", "solid", "solid", "dot", "dot", "dot", "dot"];
  const PLACES = 8;
  // A bar that is thinner than this has no room for its label: the picture scrolls instead.
  const BAR_PX = 17;
  const narrow = () => window.matchMedia("(max-width: 760px)").matches;
  // A timestamp without a zone is UTC; Plotly shows it as it is written.
  const time = (text) => (typeof text === "string" ? text.replace("T", " ").replace(/Z$/, "") : text);
  // A long name must not push all else away; hovering and the table show it whole.
  const NAME_MAX = 28;
  const short = (text) => (text.length > NAME_MAX ? `${text.slice(0, NAME_MAX / 2)}…${text.slice(1 - NAME_MAX / 2)}` : text);
  const plain = (text) => String(text).replace(/[&<>%]/g, (c) => `&#${c.charCodeAt(0)};`);

  // --- values: dashboard.js gives a number with more digits than JavaScript holds as an object that knows its digits ---

  const key = (value) => (value !== null && typeof value === "object" ? value.digits ?? JSON.stringify(value) : value ?? null);
  const number = (value) => {
    const read = value === null || value === undefined ? NaN : Number(value);
    return Number.isFinite(read) ? read : null;
  };
  const place = (value) => (typeof value === "string" ? plain(time(value)) : number(value));
  const digits = (text) => {
    const [, sign, whole, rest] = /^(-?)(\d+)(.*)$/.exec(text) ?? [];
    return whole === undefined ? text : sign + whole.replace(/\B(?=(\d{3})+$)/g, ",") + rest;
  };
  // A number as a person reads it; of a whole number or a decimal (`exact`) every digit.
  const shown = (value, exact) => {
    if (typeof value === "string") return value;
    if (exact && value?.digits) return digits(value.digits);
    const read = Number(value);
    if (exact) return read.toLocaleString("en", { maximumFractionDigits: 20 });
    if (read !== 0 && (Math.abs(read) < 0.001 || Math.abs(read) >= 1e15)) return read.toPrecision(4).replace(/\.?0+(e|$)/, "$1");
    return read.toLocaleString("en", { maximumFractionDigits: 3 });
  };

  // --- names: a_b reads better as "a b", unless another value reads so, too --------------------------------------------

  const words = (text) => String(text ?? "–").replaceAll("_", " ");
  const labels = (values) => {
    const keys = [...new Set(values.map(key))];
    const times = new Map();
    for (const one of keys) times.set(words(one), (times.get(words(one)) ?? 0) + 1);
    return new Map(keys.map((one) => [one, times.get(words(one)) === 1 ? words(one) : one === null ? "NULL" : JSON.stringify(one)]));
  };

  // --- colours: the same for a name in all panels and at each load, whatever answers first -----------------------------

  const places = new Map();
  const hash = (text) => {
    let value = 2166136261;
    for (const unit of text) value = Math.imul(value ^ unit.codePointAt(0), 16777619);
    return (value ^ (value >>> 15)) >>> 0;
  };
  const spread = (names) => {
    const given = new Map();
    for (const name of [...names].sort()) {
      let at = hash(name) % PLACES;
      const taken = new Set(given.values());
      while (given.size < PLACES && taken.has(at)) at = (at + 1) % PLACES;
      given.set(name, at);
    }
    return given;
  };
  // Makes the names of a panel known; true if a name that was known has another colour now.
  const learn = (panel, rows) => {
    if (!panel.series || panel.chart === "map") return false;
    const before = places.get(panel.series) ?? new Map();
    const names = new Set([...before.keys(), ...rows.map((row) => String(key(row[panel.series])))]);
    if (names.size === before.size) return false;
    const after = spread(names);
    places.set(panel.series, after);
    return [...before].some(([name, at]) => after.get(name) !== at);
  };
  const placeOf = (column, name) => places.get(column)?.get(String(name)) ?? 0;

  const base = (t) => ({
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: t.soft },
    margin: { l: 46, r: 10, t: 8, b: 26 }, dragmode: false, uirevision: "keep",
    hoverlabel: { bgcolor: t.surface, bordercolor: t.line, font: { color: t.ink, size: 12 }, align: "left" },
    colorway: t.series,
  });
  const axis = (t, more) => ({
    gridcolor: t.grid, linecolor: t.line, zeroline: false, fixedrange: true, automargin: true, tickfont: { color: t.faint, size: 11 }, ...more,
  });
  const unit = (panel) => (panel.unit ? " " + plain(panel.unit) : "");
  const exact = (columns, name) => Boolean(columns.find((column) => column.name === name)?.exact);

  const groups = (rows, column) => {
    const found = new Map();
    for (const row of rows) {
      const one = column ? key(row[column]) : "";
      if (!found.has(one)) found.set(one, []);
      found.get(one).push(row);
    }
    return [...found].sort(([a], [b]) => (String(a) < String(b) ? -1 : 1));
  };

  const line = (panel, rows, t) => {
    const series = groups(rows, panel.series);
    const names = labels(series.map(([name]) => name));
    const area = panel.chart === "area";
    const moments = new Set(rows.map((row) => key(row[panel.x])));
    const traces = series.map(([name, points]) => [name, points, panel.series ? placeOf(panel.series, name) : 0]).map(([name, points, at]) => ({
      type: "scatter", name: plain(short(names.get(name))), x: points.map((p) => place(p[panel.x])), y: points.map((p) => number(p[panel.y])),
      // One point makes no line: show it.
      mode: points.length === 1 ? "markers" : "lines",
      line: { color: t.series[at], width: 2, dash: area ? "solid" : DASHES[at] }, marker: { size: 8, color: t.series[at] },
      ...(area ? { stackgroup: "all", fillcolor: t.series[at] + "55" } : {}),
      hovertemplate: `%{y:,.4~g}${unit(panel)}`,
    }));
    const legend = { orientation: "h", x: 0, y: -0.12, yanchor: "top", font: { size: 11, color: t.soft }, itemwidth: 30, tracegroupgap: 0 };
    return [traces, {
      ...base(t), hovermode: "x unified", showlegend: series.length > 1, legend,
      xaxis: axis(t, { showgrid: false, tickformatstops: [
        { dtickrange: [null, 60000], value: "%H:%M:%S" }, { dtickrange: [60000, 86400000], value: "%H:%M" }, { dtickrange: [86400000, null], value: "%d %b" },
      ], hoverformat: "%d %b %H:%M:%S", nticks: narrow() ? 4 : 7,
        // The first moment is alone: name it, instead of the milliseconds around it.
        ...(moments.size === 1 ? { tickvals: [place(rows[0][panel.x])], ticktext: [String(place(rows[0][panel.x])).slice(11, 16)] } : {}) }),
      // Thousands as k; parts of one as they are.
      yaxis: axis(t, { rangemode: "tozero", nticks: 6, tickformat: Math.max(...rows.map((row) => number(row[panel.y]) ?? 0)) >= 1000 ? "~s" : "" }),
    }];
  };

  const bar = (panel, rows, t, columns) => {
    // Each row has a bar of its own, also if two have the same label.
    const [names, groupNames] = [labels(rows.map((row) => row[panel.x])), labels(panel.series ? rows.map((row) => row[panel.series]) : [])];
    const label = (row) => plain(names.get(key(row[panel.x])));
    const most = Math.max(...rows.map((row) => number(row[panel.y]) ?? 0), 1);
    const told = (row) => plain(shown(row[panel.y] ?? 0, exact(columns, panel.y)));
    const trace = {
      type: "bar", orientation: "h", y: rows.map((_, at) => at), x: rows.map((row) => number(row[panel.y])),
      marker: { color: rows.map((row) => (panel.series ? t.series[placeOf(panel.series, key(row[panel.series]))] : t.series[0])), cornerradius: 3 },
      text: rows.map((row) => `${told(row)}${panel.series ? "  " + plain(short(groupNames.get(key(row[panel.series])))) : ""}`),
      textposition: "outside", cliponaxis: false, textfont: { color: t.soft, size: 11 },
      customdata: rows.map((row) => [label(row), told(row)]),
      hovertemplate: `%{customdata[0]}: %{customdata[1]}${unit(panel)}<extra></extra>`,
    };
    return [[trace], {
      ...base(t), margin: { l: 8, r: 8, t: 4, b: 6 }, bargap: 0.3,
      xaxis: axis(t, { visible: false, range: [0, most * (panel.series ? (narrow() ? 1.75 : 1.3) : 1.15)] }),
      yaxis: axis(t, { range: [rows.length - 0.5, -0.5], tickmode: "array", tickvals: rows.map((_, at) => at), ticktext: rows.map((row) => plain(short(names.get(key(row[panel.x]))))),
        showgrid: false, ticklabelstandoff: 4, tickfont: { color: t.soft, size: 11.5 } }),
    }, rows.length * BAR_PX];
  };

  const map = (panel, rows, t, columns) => {
    const parts = groups(rows, panel.series);
    const names = labels(parts.map(([name]) => name));
    const across = Math.max(1, Math.min(narrow() ? 2 : 4, parts.length));
    const lines = Math.ceil(parts.length / across);
    const size = (p) => (panel.size ? number(p[panel.size]) ?? 0 : 1);
    const most = Math.max(...rows.map(size), 1);
    const layout = { ...base(t), margin: { l: 2, r: 2, t: 2, b: 2 }, showlegend: false, annotations: [], shapes: [], hovermode: "closest" };
    const gap = { x: 0.014, y: narrow() ? 0.045 : 0.075 };
    const traces = parts.map(([name, points], at) => {
      const [column, row] = [at % across, Math.floor(at / across)];
      const [width, height] = [1 / across, 1 / lines];
      const domain = {
        x: [column * width + gap.x / 2, (column + 1) * width - gap.x / 2],
        y: [1 - (row + 1) * height + 0.008, 1 - row * height - gap.y],
      };
      const id = at === 0 ? "" : String(at + 1);
      const [lats, lons] = [points.map((p) => number(p[panel.y])), points.map((p) => number(p[panel.x]))];
      const known = (values) => values.filter((value) => value !== null);
      const middle = (values) => (Math.min(...known(values)) + Math.max(...known(values))) / 2;
      const reach = (values) => (Math.max(...known(values)) - Math.min(...known(values))) * 0.62 + 0.004;
      const stretch = 1 / Math.max(Math.cos((middle(lats) * Math.PI) / 180), 0.1);
      layout[`xaxis${id}`] = axis(t, { domain: domain.x, anchor: `y${id}`, visible: false, range: [middle(lons) - reach(lons), middle(lons) + reach(lons)], constrain: "range" });
      layout[`yaxis${id}`] = axis(t, { domain: domain.y, anchor: `x${id}`, visible: false, scaleanchor: `x${id}`, scaleratio: stretch,
        range: [middle(lats) - reach(lats), middle(lats) + reach(lats)], constrain: "range" });
      layout.shapes.push({ type: "rect", xref: "paper", yref: "paper", x0: domain.x[0], x1: domain.x[1], y0: domain.y[0], y1: domain.y[1],
        line: { color: t.grid, width: 1 }, layer: "below" });
      layout.annotations.push({ text: plain(short(names.get(name))), xref: "paper", yref: "paper", x: domain.x[0], y: domain.y[1], xanchor: "left", yanchor: "bottom",
        showarrow: false, font: { size: 12, color: t.ink } });
      const hottest = points.reduce((best, p) => (size(p) > size(best) ? p : best), points[0]);
      return {
        type: "scatter", mode: "markers+text", x: lons, y: lats, xaxis: `x${id}`, yaxis: `y${id}`,
        text: points.map((p) => (p === hottest && size(p) > 0 && panel.label ? plain(short(words(p[panel.label]))) : "")),
        textposition: hottest[panel.x] < middle(lons) ? "middle right" : "middle left", textfont: { size: 11, color: t.ink },
        customdata: points.map((p) => [plain(panel.label ? words(p[panel.label]) : names.get(name)), plain(shown(p[panel.size] ?? 1, exact(columns, panel.size)))]),
        marker: {
          size: points.map((p) => 6 + 20 * Math.sqrt(size(p) / most)), sizemode: "diameter", opacity: 0.9,
          color: points.map(size), cmin: 0, cmax: most, colorscale: [[0, t.low], [1, t.high]], line: { color: t.surface, width: 1 },
        },
        hovertemplate: `%{customdata[0]}: %{customdata[1]}${unit(panel)}<extra>${plain(names.get(name))}</extra>`,
      };
    });
    return [traces, layout];
  };

  const funnel = (panel, rows, t, columns) => {
    const names = labels(rows.map((row) => row[panel.x]));
    const count = (row) => number(row?.[panel.y]) ?? 0;
    const most = Math.max(...rows.map(count), 1);
    const told = (row) => plain(shown(row[panel.y] ?? 0, exact(columns, panel.y)));
    const share = (row, at) => {
      const part = count(row) / count(rows[at - 1]);
      return `${told(row)}${Number.isFinite(part) ? `  ·  ${(100 * part).toFixed(part < 0.1 ? 1 : 0)} &#37; of the step before` : ""}`;
    };
    const label = (row) => plain(names.get(key(row[panel.x])));
    const trace = {
      type: "bar", orientation: "h", y: rows.map((_, at) => at), x: rows.map(count), width: 0.4,
      marker: { color: t.series[0], opacity: rows.map((_, at) => 1 - (0.5 * at) / Math.max(rows.length, 1)), cornerradius: 3 },
      customdata: rows.map((row) => [label(row), told(row)]), hovertemplate: `%{customdata[0]}: %{customdata[1]}${unit(panel)}<extra></extra>`,
    };
    // Label and numbers are above each bar: wide and narrow ones read alike.
    const annotations = rows.map((row, at) => ({ x: 0, y: at - 0.23, xref: "x", yref: "y", xanchor: "left", yanchor: "bottom", showarrow: false,
      text: `<b>${plain(short(names.get(key(row[panel.x]))))}</b>   ${share(row, at)}`, font: { size: 11.5, color: t.soft }, xshift: -3 }));
    return [[trace], {
      ...base(t), margin: { l: 4, r: 4, t: 4, b: 2 }, annotations, showlegend: false,
      xaxis: axis(t, { visible: false, range: [0, most] }), yaxis: axis(t, { visible: false, range: [rows.length - 0.7, -0.75] }),
    }];
  };

  const DRAW = { line, area: line, bar, map, funnel };
  const CONFIG = { displayModeBar: false, responsive: true, doubleClick: false, showTips: false };

  const draw = (element, panel, rows, columns) => {
    const [traces, layout, height] = DRAW[panel.chart](panel, rows, theme(), columns);
    const frame = element.parentElement;
    const scrolls = frame.clientHeight > 0 && height > frame.clientHeight;
    const resized = frame.classList.contains("scrolls") !== scrolls;
    frame.classList.toggle("scrolls", scrolls);
    element.style.height = scrolls ? `${height}px` : "";
    // What scrolls must be reachable by keyboard.
    if (scrolls) frame.tabIndex = 0;
    else frame.removeAttribute("tabindex");
    const drawn = window.Plotly.react(element, traces, layout, CONFIG);
    return resized ? drawn.then(() => window.Plotly.Plots.resize(element)) : drawn;
  };
  return { draw, labels, key, learn, shown, time };
})();
