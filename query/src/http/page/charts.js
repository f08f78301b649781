// Rows to pictures. Each function gives Plotly's traces and layout for one panel; dashboard.js puts them on the page.
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
  const narrow = () => window.matchMedia("(max-width: 760px)").matches;
  // A timestamp without a zone is UTC; Plotly shows it as it is written.
  const time = (text) => (typeof text === "string" ? text.replace("T", " ").replace(/Z$/, "") : text);
  const words = (text) => String(text ?? "–").replaceAll("_", " ");

  // A name has one colour on the whole page, in whichever panel it is seen first.
  const places = new Map();
  const place = (column, name) => {
    const key = `${column}\n${name}`;
    if (!places.has(key)) places.set(key, [...places.keys()].filter((other) => other.startsWith(`${column}\n`)).length);
    return places.get(key) % 8;
  };

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

  const groups = (rows, column) => {
    const found = new Map();
    for (const row of rows) {
      const key = column ? row[column] : "";
      if (!found.has(key)) found.set(key, []);
      found.get(key).push(row);
    }
    return [...found].sort(([a], [b]) => (String(a) < String(b) ? -1 : 1));
  };

  const line = (panel, rows, t) => {
    const series = groups(rows, panel.series);
    const area = panel.chart === "area";
    const moments = new Set(rows.map((row) => row[panel.x]));
    const traces = series.map(([name, points]) => [name, points, place(panel.series, name)]).map(([name, points, at]) => ({
      type: "scatter", name: words(name), x: points.map((p) => time(p[panel.x])), y: points.map((p) => p[panel.y]),
      // One point makes no line: show it.
      mode: points.length === 1 ? "markers" : "lines",
      line: { color: t.series[at], width: 2, dash: area ? "solid" : DASHES[at] }, marker: { size: 8, color: t.series[at] },
      ...(area ? { stackgroup: "all", fillcolor: t.series[at] + "55" } : {}),
      hovertemplate: `%{y:,.4~g}${panel.unit ? " " + panel.unit : ""}`,
    }));
    const legend = { orientation: "h", x: 0, y: -0.12, yanchor: "top", font: { size: 11, color: t.soft }, itemwidth: 30, tracegroupgap: 0 };
    return [traces, {
      ...base(t), hovermode: "x unified", showlegend: series.length > 1, legend,
      xaxis: axis(t, { showgrid: false, tickformatstops: [
        { dtickrange: [null, 60000], value: "%H:%M:%S" }, { dtickrange: [60000, 86400000], value: "%H:%M" }, { dtickrange: [86400000, null], value: "%d %b" },
      ], hoverformat: "%d %b %H:%M:%S", nticks: narrow() ? 4 : 7,
        // The first moment stands alone: name it, instead of the milliseconds around it.
        ...(moments.size === 1 ? { tickvals: [time(rows[0][panel.x])], ticktext: [String(time(rows[0][panel.x])).slice(11, 16)] } : {}) }),
      // Thousands as k; parts of one as they are.
      yaxis: axis(t, { rangemode: "tozero", nticks: 6, tickformat: Math.max(...rows.map((row) => row[panel.y] ?? 0)) >= 1000 ? "~s" : "" }),
    }];
  };

  const bar = (panel, rows, t) => {
    const labels = rows.map((row) => words(row[panel.x]));
    // In order of name, so that colours do not depend on today's ranks.
    if (panel.series) [...new Set(rows.map((row) => row[panel.series]))].sort().forEach((name) => place(panel.series, name));
    const most = Math.max(...rows.map((row) => row[panel.y] ?? 0), 1);
    const trace = {
      type: "bar", orientation: "h", y: labels, x: rows.map((row) => row[panel.y]),
      marker: { color: rows.map((row) => (panel.series ? t.series[place(panel.series, row[panel.series])] : t.series[0])), cornerradius: 3 },
      text: rows.map((row) => `${Number(row[panel.y] ?? 0).toLocaleString("en")}${panel.series ? "  " + words(row[panel.series]) : ""}`),
      textposition: "outside", cliponaxis: false, textfont: { color: t.soft, size: 11 },
      hovertemplate: `%{y}: %{x:,}${panel.unit ? " " + panel.unit : ""}<extra></extra>`,
    };
    return [[trace], {
      ...base(t), margin: { l: 8, r: 8, t: 4, b: 6 }, bargap: 0.3,
      xaxis: axis(t, { visible: false, range: [0, most * (panel.series ? (narrow() ? 1.75 : 1.3) : 1.15)] }),
      yaxis: axis(t, { autorange: "reversed", showgrid: false, ticklabelstandoff: 4, tickfont: { color: t.soft, size: 11.5 } }),
    }];
  };

  const map = (panel, rows, t) => {
    const places = groups(rows, panel.series);
    const columns = Math.max(1, Math.min(narrow() ? 2 : 4, places.length));
    const lines = Math.ceil(places.length / columns);
    const sizes = rows.map((row) => row[panel.size] ?? 1);
    const most = Math.max(...sizes, 1);
    const layout = { ...base(t), margin: { l: 2, r: 2, t: 2, b: 2 }, showlegend: false, annotations: [], shapes: [], hovermode: "closest" };
    const gap = { x: 0.014, y: narrow() ? 0.045 : 0.075 };
    const traces = places.map(([name, points], at) => {
      const [column, row] = [at % columns, Math.floor(at / columns)];
      const [width, height] = [1 / columns, 1 / lines];
      const domain = {
        x: [column * width + gap.x / 2, (column + 1) * width - gap.x / 2],
        y: [1 - (row + 1) * height + 0.008, 1 - row * height - gap.y],
      };
      const id = at === 0 ? "" : String(at + 1);
      const [lats, lons] = [points.map((p) => p[panel.y]), points.map((p) => p[panel.x])];
      const middle = (values) => (Math.min(...values) + Math.max(...values)) / 2;
      const reach = (values) => (Math.max(...values) - Math.min(...values)) * 0.62 + 0.004;
      const stretch = 1 / Math.max(Math.cos((middle(lats) * Math.PI) / 180), 0.1);
      layout[`xaxis${id}`] = axis(t, { domain: domain.x, anchor: `y${id}`, visible: false, range: [middle(lons) - reach(lons), middle(lons) + reach(lons)], constrain: "range" });
      layout[`yaxis${id}`] = axis(t, { domain: domain.y, anchor: `x${id}`, visible: false, scaleanchor: `x${id}`, scaleratio: stretch,
        range: [middle(lats) - reach(lats), middle(lats) + reach(lats)], constrain: "range" });
      layout.shapes.push({ type: "rect", xref: "paper", yref: "paper", x0: domain.x[0], x1: domain.x[1], y0: domain.y[0], y1: domain.y[1],
        line: { color: t.grid, width: 1 }, layer: "below" });
      layout.annotations.push({ text: words(name), xref: "paper", yref: "paper", x: domain.x[0], y: domain.y[1], xanchor: "left", yanchor: "bottom",
        showarrow: false, font: { size: 12, color: t.ink } });
      const hottest = points.reduce((best, p) => ((p[panel.size] ?? 0) > (best[panel.size] ?? 0) ? p : best), points[0]);
      return {
        type: "scatter", mode: "markers+text", x: lons, y: lats, xaxis: `x${id}`, yaxis: `y${id}`,
        text: points.map((p) => (p === hottest && p[panel.size] > 0 && panel.label ? words(p[panel.label]) : "")),
        textposition: hottest[panel.x] < middle(lons) ? "middle right" : "middle left", textfont: { size: 11, color: t.ink },
        customdata: points.map((p) => [words(panel.label ? p[panel.label] : name), p[panel.size] ?? 1]),
        marker: {
          size: points.map((p) => 6 + 20 * Math.sqrt((p[panel.size] ?? 1) / most)), sizemode: "diameter", opacity: 0.9,
          color: points.map((p) => p[panel.size] ?? 1), cmin: 0, cmax: most, colorscale: [[0, t.low], [1, t.high]], line: { color: t.surface, width: 1 },
        },
        hovertemplate: `%{customdata[0]}: %{customdata[1]:,}${panel.unit ? " " + panel.unit : ""}<extra>${words(name)}</extra>`,
      };
    });
    return [traces, layout];
  };

  const funnel = (panel, rows, t) => {
    const most = Math.max(...rows.map((row) => row[panel.y] ?? 0), 1);
    const share = (row, at) => {
      const count = Number(row[panel.y] ?? 0);
      const before = at > 0 ? Number(rows[at - 1][panel.y] ?? 0) : 0;
      return `${count.toLocaleString("en")}${before > 0 ? `  ·  ${((100 * count) / before).toFixed(count / before < 0.1 ? 1 : 0)} % of the step before` : ""}`;
    };
    const trace = {
      type: "bar", orientation: "h", y: rows.map((_, at) => at), x: rows.map((row) => row[panel.y]), width: 0.4,
      marker: { color: t.series[0], opacity: rows.map((_, at) => 1 - (0.5 * at) / Math.max(rows.length, 1)), cornerradius: 3 },
      customdata: rows.map((row) => words(row[panel.x])), hovertemplate: "%{customdata}: %{x:,}<extra></extra>",
    };
    // Label and numbers stand above each bar: wide and narrow ones read alike.
    const annotations = rows.map((row, at) => ({ x: 0, y: at - 0.23, xref: "x", yref: "y", xanchor: "left", yanchor: "bottom", showarrow: false,
      text: `<b>${words(row[panel.x])}</b>   ${share(row, at)}`, font: { size: 11.5, color: t.soft }, xshift: -3 }));
    return [[trace], {
      ...base(t), margin: { l: 4, r: 4, t: 4, b: 2 }, annotations, showlegend: false,
      xaxis: axis(t, { visible: false, range: [0, most] }), yaxis: axis(t, { visible: false, range: [rows.length - 0.7, -0.75] }),
    }];
  };

  const DRAW = { line, area: line, bar, map, funnel };
  const CONFIG = { displayModeBar: false, responsive: true, doubleClick: false, showTips: false };

  const draw = (element, panel, rows) => {
    const [traces, layout] = DRAW[panel.chart](panel, rows, theme());
    return window.Plotly.react(element, traces, layout, CONFIG);
  };
  return { draw, words, time };
})();
