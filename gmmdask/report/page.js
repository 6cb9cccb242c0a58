"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") === "descending" || (head.dataset.kind !== "number" && !head.hasAttribute("aria-sort"));
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const key = (row) => {
        const value = row.cells[column].dataset.value;
        return head.dataset.kind === "number" ? (value === "" ? NaN : Number(value)) : value;
      };
      const compare = (a, b) => {
        const [x, y] = [key(a), key(b)];
        if (typeof x === "string") return x.localeCompare(y);
        return Number.isNaN(x) - Number.isNaN(y) || (up ? x - y : y - x);
      };
      const rows = [...body.rows].sort(compare);
      if (!up && head.dataset.kind !== "number") rows.reverse();
      body.append(...rows);
    });
  });
}
for (const box of document.querySelectorAll(".scroll")) {
  const hint = () => box.classList.toggle("more", box.scrollLeft + box.clientWidth < box.scrollWidth - 1);
  box.addEventListener("scroll", hint, { passive: true });
  addEventListener("resize", hint);
  addEventListener("load", hint);
}
