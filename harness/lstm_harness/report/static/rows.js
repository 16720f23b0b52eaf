/* Every row of the Summary: sort, filter, download. */
const FIRST_ROWS = 30;
let limit = FIRST_ROWS;
let haystack = null;

function foundRows() {
  const words = view.filter.toLowerCase().split(/\s+/).filter(Boolean);
  const all = [...table.rows.keys()];
  if (words.length && !haystack) haystack = table.rows.map((row) => row.join(" ").toLowerCase());
  const found = words.length ? all.filter((i) => words.every((word) => haystack[i].includes(word))) : all;
  const down = view.sort.startsWith("-");
  const column = columnOf(view.sort.replace(/^-/, ""));
  const value = (i) => table.rows[i][column];
  return column < 0 ? found : found.sort((i, j) => compare(value(i), value(j), down));
}
/* What is unknown comes last, whichever way. */
function compare(a, b, down) {
  if (a === null || b === null) return (a === null) - (b === null);
  const order = typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
  return down ? -order : order;
}

function drawRows() {
  const found = foundRows();
  const columns = [...table.columns.keys()].filter((i) => table.columns[i].shown);
  const body = make("tbody");
  for (const i of found.slice(0, limit)) body.append(rowOf(i, columns));
  byId("all-rows").replaceChildren(make("thead", {}, headOfRows(columns)), body);
  byId("row-count").textContent = `${found.length} of ${table.rows.length} rows`;
  byId("more").hidden = found.length <= limit;
  byId("more").textContent = `Show ${Math.min(500, found.length - limit)} more`;
}
function rowOf(number, columns) {
  const values = table.rows[number];
  const row = make("tr");
  for (const j of columns) {
    const isText = typeof values[j] === "string";
    const title = isText ? values[j].slice(0, 300) : null;
    row.append(make("td", { class: isText ? "text" : "n", title }, shown(values[j]).slice(0, 200)));
  }
  const name = values[columnOf("backend")];
  const button = values[columnOf("status")] === "ok" ? [samplesButton(name, `${name.slice(0, 60)}, ${rowName(number)}`)] : [];
  button.forEach((one) => one.addEventListener("click", () => takeCase(number), { capture: true }));
  row.append(make("td", {}, ...button));
  return row;
}
function headOfRows(columns) {
  const head = make("tr");
  const down = view.sort.startsWith("-");
  const sorted = columnOf(view.sort.replace(/^-/, ""));
  for (const j of columns) {
    const { name, title, unit } = table.columns[j];
    const button = make("button", { type: "button" }, unit ? `${title} (${unit})` : title);
    button.addEventListener("click", () => {
      view.sort = sorted === j && !down ? `-${name}` : name;
      changed("rows");
      byId("all-rows").querySelectorAll("th button")[columns.indexOf(j)].focus();
    });
    const isText = table.rows.some((row) => typeof row[j] === "string");
    const cell = make("th", { scope: "col", class: isText ? null : "n" }, button);
    if (sorted === j) {
      cell.setAttribute("aria-sort", down ? "descending" : "ascending");
      button.append(down ? " ↓" : " ↑");
    }
    head.append(cell);
  }
  head.append(make("th", { scope: "col" }, "Samples"));
  return head;
}

/* Text that a spreadsheet would run as a formula is led by an apostrophe. */
function field(value) {
  if (value === null) return "";
  if (typeof value !== "string") return String(value);
  const safe = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}
function csv() {
  const lines = [table.columns.map((column) => field(column.name)), ...table.rows.map((row) => row.map(field))];
  return lines.map((line) => line.join(",")).join("\r\n") + "\r\n";
}
function download() {
  const address = URL.createObjectURL(new Blob([csv()], { type: "text/csv;charset=utf-8" }));
  make("a", { href: address, download: "lstm-bench.csv" }).click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}

function startRows() {
  byId("filter").addEventListener("input", (event) => {
    view.filter = event.target.value;
    limit = FIRST_ROWS;
    changed("rows");
  });
  byId("more").addEventListener("click", () => {
    limit += 500;
    drawRows();
  });
  byId("csv").addEventListener("click", download);
  follow(["rows"], drawRows);
}
