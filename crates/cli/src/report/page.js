// Values under the pointer. The lines are all there is: their points are read back through the axes.
for (const area of document.querySelectorAll(".area")) {
  const log = area.hasAttribute("data-log");
  const [x0, x1] = area.dataset.x.split(" ").map(Number);
  const [y0, y1] = area.dataset.y.split(" ").map(Number);
  const title = area.closest("figure").querySelector("h3").textContent;
  let lines = null;
  const read = () => [...area.querySelectorAll("[data-name]")].map(element => {
    const text = element.getAttribute("points") ?? element.getAttribute("d").replace(/M|h0/g, "");
    const numbers = text.split(" ").map(Number);
    const points = [];
    for (let i = 0; i + 1 < numbers.length; i += 2) points.push([numbers[i], numbers[i + 1]]);
    return { element, name: element.dataset.name || title, points };
  });
  const x = at => x0 + (x1 - x0) * at / 1000;
  const y = at => log ? y0 * (y1 / y0) ** (1 - at / 1000) : y0 + (y1 - y0) * (1 - at / 1000);
  const ruler = document.createElement("div");
  const tip = document.createElement("div");
  ruler.className = "ruler";
  tip.className = "tip";
  const leave = () => { ruler.remove(); tip.remove(); };
  area.addEventListener("pointerleave", leave);
  area.addEventListener("pointermove", event => {
    lines ??= read();
    const box = area.getBoundingClientRect();
    const at = 1000 * (event.clientX - box.left) / box.width;
    const near = lines.map(line => ({ ...line, point: line.points.reduce((a, b) => Math.abs(b[0] - at) < Math.abs(a[0] - at) ? b : a) }))
      .sort((a, b) => a.point[1] - b.point[1]).slice(0, 16);
    if (near.length === 0) return leave();
    const place = near.reduce((a, b) => Math.abs(b.point[0] - at) < Math.abs(a.point[0] - at) ? b : a).point[0];
    tip.replaceChildren(`${Math.round(x(place))}`);
    for (const line of near.filter(line => Math.abs(line.point[0] - place) < 20)) {
      const row = document.createElement("div");
      const key = document.createElement("span");
      const value = document.createElement("b");
      key.className = "key";
      key.style.cssText = line.element.style.cssText;
      value.textContent = Number(y(line.point[1]).toPrecision(4));
      row.append(key, value, ` ${line.name}`);
      tip.append(row);
    }
    ruler.style.left = `${place / 10}%`;
    tip.style.left = place < 500 ? `calc(${place / 10}% + 10px)` : "auto";
    tip.style.right = place < 500 ? "auto" : `calc(${100 - place / 10}% + 10px)`;
    area.append(ruler, tip);
  });
}
