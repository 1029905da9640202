"use strict";
// Sorts, filters and copies tables, and enlarges pictures. Without it every page still reads.

const make = (tag, properties = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
};

const text = (cell) => cell.textContent.replace(/\s+/g, " ").trim();

const plain = (cell) => {
  if (cell.dataset.value) return cell.dataset.value;
  const copy = cell.cloneNode(true);
  copy.querySelectorAll(".unseen, .glyph, .flagged, [aria-hidden], svg").forEach((part) => part.remove());
  copy.querySelectorAll("br").forEach((part) => part.replaceWith(" "));
  return text(copy);
};

const compare = (column, sign) => {
  const order = new Intl.Collator(document.documentElement.lang, { numeric: true });
  const number = (cell) => cell.dataset.value ?? plain(cell).match(/^-?[\d.]+$/)?.[0] ?? "";
  return (one, other) => {
    const [a, b] = [one, other].map((row) => row.cells[column]);
    const [x, y] = [a, b].map((cell) => (number(cell) === "" ? NaN : Number(number(cell))));
    if (!isNaN(x) && !isNaN(y)) return sign * (x - y);
    if (isNaN(x) !== isNaN(y)) return isNaN(x) ? 1 : -1; // what is unknown stays last
    return sign * order.compare(plain(a), plain(b));
  };
};

const sortable = (table) => {
  const body = table.tBodies[0];
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const linked = head.querySelector("a") !== null; // a link may not stand in a button
    const button = make("button", { type: "button" }, ...(linked ? [] : head.childNodes));
    if (linked) button.setAttribute("aria-label", `Sort by ${text(head)}`);
    linked ? head.append(button) : head.replaceChildren(button);
    button.addEventListener("click", () => {
      const large = head.classList.contains("num") || head.classList.contains("wide");
      const first = large && !("first" in head.dataset) ? "descending" : "ascending";
      const other = first === "ascending" ? "descending" : "ascending";
      const next = head.getAttribute("aria-sort") === first ? other : first;
      for (const cell of table.tHead.rows[0].cells) cell.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", next);
      body.append(...[...body.rows].sort(compare(column, next === "ascending" ? 1 : -1)));
    });
  });
};

const quoted = (cell) => `"${plain(cell).replaceAll('"', '""')}"`;

const csv = (table) =>
  [table.tHead.rows[0], ...[...table.tBodies[0].rows].filter((row) => !row.hidden)]
    .map((row) => [...row.cells].map(quoted).join(","))
    .join("\n") + "\n";

const copy = async (words) => {
  try {
    await navigator.clipboard.writeText(words);
  } catch {
    const area = make("textarea", { value: words });
    document.body.append(area);
    area.select();
    document.execCommand("copy"); // pages opened from disk may have no clipboard
    area.remove();
  }
};

const tools = (table, number) => {
  const rows = [...table.tBodies[0].rows];
  const said = make("output");
  const button = make("button", { type: "button", textContent: "Copy as CSV" });
  button.addEventListener("click", async () => {
    await copy(csv(table));
    said.textContent = "copied";
  });
  const bar = make("div", { className: "tools" });
  if (rows.length > 5) {
    const field = make("input", { type: "search", id: `filter-${number}`, placeholder: "Filter rows" });
    field.setAttribute("aria-label", "Filter rows");
    field.addEventListener("input", () => {
      const wanted = field.value.toLowerCase().split(/\s+/);
      for (const row of rows) row.hidden = !wanted.every((word) => text(row).toLowerCase().includes(word));
      said.textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} rows`;
    });
    bar.append(field);
  }
  bar.append(button, said);
  table.closest(".scroll").before(bar);
};

const viewer = () => {
  const image = make("img");
  const caption = make("p");
  const step = (by) => () => show(links[(links.indexOf(shown) + by + links.length) % links.length]);
  const [back, on] = [["Previous", -1], ["Next", 1]].map(([name, by]) => {
    const button = make("button", { type: "button", textContent: name });
    button.addEventListener("click", step(by));
    return button;
  });
  const form = make("form", { method: "dialog" }, back, on, make("button", { textContent: "Close" }));
  const dialog = make("dialog", { className: "viewer" }, image, caption, form);
  dialog.setAttribute("aria-label", "Picture");
  let links = [];
  let shown;
  const show = (link) => {
    shown = link;
    const small = link.querySelector("img");
    Object.assign(image, { src: small.currentSrc || small.src, alt: small.alt, className: small.className });
    caption.textContent = small.alt;
    back.hidden = on.hidden = links.length < 2;
  };
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") step(-1)();
    if (event.key === "ArrowRight") step(1)();
  });
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.addEventListener("close", () => shown.focus());
  document.body.append(dialog);
  return (link) => {
    links = [...(link.closest(".views, .tiles") ?? link.parentElement).querySelectorAll("a.enlarge")];
    show(link);
    dialog.showModal();
  };
};

document.querySelectorAll("table.data").forEach((table, number) => {
  if (table.tBodies[0].rows.length > 1) {
    sortable(table);
    tools(table, number);
  }
});
const open = viewer();
document.addEventListener("click", (event) => {
  const link = event.target.closest("a.enlarge");
  if (link && !event.ctrlKey && !event.metaKey && !event.shiftKey) {
    event.preventDefault();
    open(link);
  }
});
