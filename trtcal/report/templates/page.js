"use strict";
(() => {
  const record = JSON.parse(document.getElementById("record").textContent);
  const root = document.documentElement;
  const prefersDark = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.scheme ? root.dataset.scheme === "dark" : prefersDark.matches);
  const style = (name) => getComputedStyle(root).getPropertyValue(name).trim();
  const PAGE = 200;

  // ---- charts: drawn when they come into view, and again where the scheme changes
  const drawn = new Map();
  function config() {
    const text = style("--text"), quiet = style("--quiet"), line = style("--line");
    return {
      background: null, font: "system-ui, sans-serif",
      axis: { labelColor: quiet, titleColor: text, gridColor: line, domainColor: line, tickColor: line, titleFontWeight: 500 },
      legend: { labelColor: text, titleColor: text }, title: { color: text }, view: { stroke: null },
    };
  }
  async function draw(element) {
    const spec = JSON.parse(document.getElementById(element.dataset.spec)?.textContent ?? element.specText);
    drawn.get(element)?.finalize();
    const result = await vegaEmbed(element, spec, {
      mode: "vega-lite", actions: false, config: config(), renderer: element.dataset.renderer || "svg",
      tooltip: { theme: isDark() ? "dark" : "light" },
    });
    drawn.set(element, result);
    if (element.dataset.by) result.view.signal("by", element.dataset.by).run();
    element.dataset.drawn = "yes";
  }
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting) { seen.unobserve(entry.target); draw(entry.target); }
  }, { rootMargin: "200px" });
  const watch = (element) => seen.observe(element);
  document.querySelectorAll(".chart[data-spec]").forEach(watch);
  const redraw = () => [...drawn.keys()].forEach((element) => element.isConnected && draw(element));

  // ---- light and dark
  const scheme = document.getElementById("scheme");
  scheme.addEventListener("click", () => { root.dataset.scheme = isDark() ? "light" : "dark"; named(); redraw(); });
  const named = () => { scheme.textContent = isDark() ? "light" : "dark"; scheme.setAttribute("aria-label", `show in the ${scheme.textContent} scheme`); };
  prefersDark.addEventListener("change", () => { named(); redraw(); });
  named();

  // ---- tables that are in the page: sorted by a click on a heading
  document.querySelectorAll("table[data-sortable]").forEach((table) => {
    const body = table.tBodies[0];
    headings(table, (place, falling) => {
      const value = (row) => row.cells[place].dataset.value ?? row.cells[place].textContent.trim();
      [...body.rows].sort((a, b) => compared(value(a), value(b), falling)).forEach((row) => body.append(row));
    });
  });
  function headings(table, sort) {
    const cells = [...table.tHead.rows[0].cells];
    cells.forEach((cell, place) => {
      const button = document.createElement("button");
      button.type = "button"; button.textContent = cell.textContent; cell.replaceChildren(button);
      button.addEventListener("click", () => {
        const falling = cell.getAttribute("aria-sort") === "ascending";
        cells.forEach((each) => each.removeAttribute("aria-sort"));
        cell.setAttribute("aria-sort", falling ? "descending" : "ascending");
        sort(place, falling);
      });
    });
  }
  function compared(a, b, falling) {
    const missing = (v) => v === null || v === undefined || v === "" || v === "-";
    if (missing(a) || missing(b)) return missing(a) - missing(b);
    const one = Number(a), other = Number(b);
    const order = Number.isNaN(one) || Number.isNaN(other) ? String(a).localeCompare(String(b)) : one - other;
    return falling ? -order : order;
  }

  // ---- long tables, filled from the record: as many rows as are looked at
  function longTable(host, columns, rows, filters) {
    const table = host.querySelector("table"), body = table.tBodies[0], search = host.querySelector("input");
    const count = host.querySelector(".count"), box = host.querySelector(".scroll");
    let shown = rows, filled = 0;
    const cell = (row, column) => {
      const td = document.createElement("td"), value = row[column.key];
      td.textContent = value === null || value === undefined || value === "" ? "-" : column.text ? column.text(value) : String(value);
      if (column.number) td.className = "number";
      if (column.wide) td.className = "wide";
      return td;
    };
    function more(upTo) {
      const rest = document.createDocumentFragment();
      for (; filled < Math.min(upTo, shown.length); filled += 1) {
        const tr = document.createElement("tr");
        tr.append(...columns.map((column) => cell(shown[filled], column)));
        rest.append(tr);
      }
      body.append(rest);
    }
    function refresh() {
      const wanted = search.value.trim().toLowerCase();
      shown = rows.filter((row) => filters(row) && (!wanted || columns.some((column) => String(row[column.key] ?? "").toLowerCase().includes(wanted))));
      if (sorted) shown = [...shown].sort((a, b) => compared(a[sorted.key], b[sorted.key], sorted.falling));
      body.replaceChildren(); filled = 0; more(PAGE);
      count.textContent = `${shown.length} of ${rows.length}`;
    }
    let sorted = null;
    table.tHead.rows[0].replaceChildren(...columns.map((column) => {
      const th = document.createElement("th");
      th.scope = "col"; th.textContent = column.title; if (column.number) th.className = "number";
      return th;
    }));
    headings(table, (place, falling) => { sorted = { key: columns[place].key, falling }; refresh(); });
    search.addEventListener("input", refresh);
    box.addEventListener("scroll", () => { if (box.scrollTop + box.clientHeight > box.scrollHeight - 400) more(filled + PAGE); });
    addEventListener("beforeprint", () => more(Infinity));
    refresh();
    return refresh;
  }
  const short = (value) => (typeof value === "number" ? Number(value.toPrecision(4)).toString() : value);

  // ---- layers: the graph's switch, and the table beside it
  const layers = document.getElementById("layers-table");
  if (layers) {
    const select = document.getElementById("layers-precision");
    const refresh = longTable(layers, [
      { key: "name", title: "layer", wide: true }, { key: "operator", title: "operator" }, { key: "precision", title: "precision" },
      { key: "error_db", title: "SQNR, dB", number: true, text: short }, { key: "macs", title: "MACs", number: true, text: (v) => v.toLocaleString("en") },
      { key: "scale", title: "scale", number: true, text: short }, { key: "shapes", title: "output" }, { key: "reason", title: "why in float", wide: true },
    ], record.layers.nodes, (row) => !select.value || row.precision === select.value);
    select.addEventListener("change", refresh);
    const graph = document.getElementById("layers-graph");
    document.querySelectorAll("[data-layers-by]").forEach((button) => button.addEventListener("click", () => {
      document.querySelectorAll("[data-layers-by]").forEach((each) => each.setAttribute("aria-pressed", String(each === button)));
      graph.dataset.by = button.dataset.layersBy;
      const view = drawn.get(graph)?.view;
      if (view) view.signal("by", graph.dataset.by).run();
    }));
  }

  // ---- ranges: small multiples, made as they are scrolled to
  const ranges = document.getElementById("ranges-multiples");
  if (ranges) {
    const search = document.getElementById("ranges-search"), count = document.getElementById("ranges-count"), order = document.getElementById("ranges-order");
    const all = record.ranges.tensors, chosen = record.ranges.chosen, pattern = JSON.parse(document.getElementById("spec-tensor").textContent);
    const further = document.getElementById("ranges-more"), AT_ONCE = 24;
    let shown = all, filled = 0;
    function spec(each) {
      const text = structuredClone(pattern), width = (each.high - each.low) / Math.max(each.counts.length, 1);
      text.layer[0].data.values = each.counts.map((count, place) => ({ start: each.low + place * width, end: each.low + (place + 1) * width, count }));
      const lines = Object.entries(each.thresholds).map(([method, amax]) => ({ method, amax, chosen: method === chosen, clipped: each.clipped[method], levels: each.levels[method] }));
      text.layer[1].data.values = each.low < 0 ? lines.concat(lines.map((line) => ({ ...line, amax: -line.amax }))) : lines;
      return JSON.stringify(text);
    }
    function tile(each) {
      const box = document.createElement("article"), title = document.createElement("h3"), about = document.createElement("p"), chart = document.createElement("div");
      box.className = "tile"; chart.className = "chart"; title.textContent = each.name;
      const harm = each.harm === null ? "" : `; ${each.harm.toFixed(1)} dB alone in INT8`;
      about.textContent = `${chosen}: up to ${short(each.thresholds[chosen])}, clips ${(100 * each.clipped[chosen]).toPrecision(2)} %, ${each.levels[chosen]} of 255 levels${harm}${each.float ? `; in float: ${each.float}` : ""}`;
      chart.specText = spec(each);
      chart.setAttribute("role", "img"); chart.setAttribute("aria-label", `values of ${each.name} and the thresholds of ${record.ranges.methods.length} methods`);
      box.append(title, about, chart); watch(chart);
      return box;
    }
    function more(upTo) {
      const rest = document.createDocumentFragment();
      for (; filled < Math.min(upTo, shown.length); filled += 1) rest.append(tile(shown[filled]));
      ranges.append(rest);
      further.hidden = filled >= shown.length;
      further.textContent = `show ${Math.min(AT_ONCE, shown.length - filled)} of ${shown.length - filled} more`;
    }
    const orders = {
      harm: () => 0, name: (a, b) => a.name.localeCompare(b.name),
      clipped: (a, b) => b.clipped[chosen] - a.clipped[chosen], levels: (a, b) => a.levels[chosen] - b.levels[chosen],
    };
    function refresh() {
      const wanted = search.value.trim().toLowerCase();
      shown = all.filter((each) => each.name.toLowerCase().includes(wanted));
      if (order.value !== "harm") shown = [...shown].sort(orders[order.value]);
      ranges.replaceChildren(); filled = 0; more(AT_ONCE);
      count.textContent = `${shown.length} of ${all.length}`;
    }
    further.addEventListener("click", () => more(filled + AT_ONCE));
    search.addEventListener("input", refresh); order.addEventListener("change", refresh);
    addEventListener("beforeprint", () => { more(Infinity); ranges.querySelectorAll(".chart:not([data-drawn])").forEach(draw); });
    refresh();
  }
  addEventListener("beforeprint", () => document.querySelectorAll(".chart[data-spec]:not([data-drawn])").forEach(draw));
})();
