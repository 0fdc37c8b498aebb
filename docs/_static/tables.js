// Tables of twenty rows or more: a field that filters, headings that sort.
// Cells that start with a number ("-16 [-17.5, -14.3] nats") are ordered by it, and come before the others.
function compared(a, b) {
  const [one, two] = [a, b].map((cell) => cell.textContent.trim());
  const [first, second] = [one, two].map(parseFloat);
  if (Number.isNaN(first) || Number.isNaN(second)) {
    return Number.isNaN(first) - Number.isNaN(second) || one.localeCompare(two, "en", { numeric: true });
  }
  return first - second || one.localeCompare(two, "en", { numeric: true });
}
addEventListener("DOMContentLoaded", () => {
  for (const table of document.querySelectorAll("article table")) {
    const body = table.tBodies[0], heads = [...(table.tHead?.rows[0]?.cells ?? [])];
    if (!body || body.rows.length < 20) continue;
    const rows = [...body.rows], field = document.createElement("input");
    Object.assign(field, { type: "search", className: "table-filter", placeholder: "Filter these rows" });
    field.setAttribute("aria-label", "Filter the rows of the table");
    field.addEventListener("input", () => {
      const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
      for (const row of rows) {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
      }
    });
    (table.closest(".table-wrapper") ?? table).before(field);
    heads.forEach((head, column) => {
      head.classList.add("sortable");
      head.tabIndex = 0;
      const sort = () => {
        const up = head.getAttribute("aria-sort") !== "ascending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        rows.sort((a, b) => compared(a.cells[column], b.cells[column]) * (up ? 1 : -1));
        body.append(...rows);
      };
      head.addEventListener("click", sort);
      head.addEventListener("keydown", (event) => event.key === "Enter" && sort());
    });
  }
});
