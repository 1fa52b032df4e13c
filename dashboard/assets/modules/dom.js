// Elements made and kept: what changes is written, what stays is not touched, so that nothing flickers or jumps.

const SVG = "http://www.w3.org/2000/svg";

function build(el, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") for (const [event, handler] of Object.entries(value)) el.addEventListener(event, handler);
    else el.setAttribute(name, value === true ? "" : value);
  }
  el.append(...children.filter((child) => child !== null));
  return el;
}

export const h = (tag, attributes = {}, ...children) => build(document.createElement(tag), attributes, children);
export const s = (tag, attributes = {}, ...children) => build(document.createElementNS(SVG, tag), attributes, children);

/** Write a text only where it differs. */
export function setText(el, text) {
  if (el.textContent !== text) el.textContent = text;
}

/** Write an attribute only where it differs; null takes it away. */
export function setAttribute(el, name, value) {
  if (value === null || value === undefined) {
    if (el.hasAttribute(name)) el.removeAttribute(name);
  } else if (el.getAttribute(name) !== String(value)) el.setAttribute(name, value);
}

/**
 * Keep one child of `container` for each item, found again by key: `create(item)` makes it, `update(el, item)` fills it.
 * Children are moved only where their order changed.
 */
export function keyed(container, items, key, create, update) {
  const kept = new Map();
  for (const el of [...container.children]) if (el.dataset.key !== undefined) kept.set(el.dataset.key, el);
  let place = null;
  for (const item of items) {
    const name = String(key(item));
    let el = kept.get(name);
    kept.delete(name);
    if (!el) {
      el = create(item);
      el.dataset.key = name;
    }
    update(el, item);
    const next = place ? place.nextElementSibling : container.firstElementChild;
    if (next !== el) container.insertBefore(el, next);
    place = el;
  }
  for (const el of kept.values()) el.remove();
}

/** Shape and colour of a severity: triangle, diamond, circle; hollow once resolved. */
export function severityIcon(severity, resolved = false) {
  const shapes = { critical: "M12 3 22 21H2Z", major: "M12 2 22 12 12 22 2 12Z", minor: "M12 3a9 9 0 1 0 .01 0Z" };
  const shape = resolved ? shapes.minor : shapes[severity];
  return s(
    "svg",
    { viewBox: "0 0 24 24", class: `severity ${resolved ? "resolved" : severity}`, "aria-hidden": "true" },
    s("path", { d: shape }),
  );
}

export const cookie = (name) =>
  document.cookie
    .split("; ")
    .find((part) => part.startsWith(`${name}=`))
    ?.slice(name.length + 1);

export function setCookie(name, value) {
  document.cookie = `${name}=${value}; path=/; max-age=31536000; SameSite=Strict`;
}

/** True while somebody reads a list: the pointer is over it, or the focus in it. */
export const isRead = (el) => el.matches(":hover") || el.contains(document.activeElement);
