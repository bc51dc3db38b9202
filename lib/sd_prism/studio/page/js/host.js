// The page functions of the host that extensions' scripts call. Plain scripts, loaded before all others.
(() => {
  const lists = { update: [], after: [], loaded: [], tab: [], options: [], available: [] };
  const call = (list, ...args) => list.forEach((f) => {
    try { f(...args); } catch (e) { console.error("error in a page callback:", e); }
  });
  const shown = (element) => getComputedStyle(element).display !== "none";

  globalThis.opts = globalThis.opts || {};
  globalThis.gradioApp = () => document;
  globalThis.get_uiCurrentTab = () => document.querySelector("#tabs button[role=tab][aria-selected=true]");
  globalThis.get_uiCurrentTabContent = () =>
    [...document.querySelectorAll("#tabs > [role=tabpanel][id^=tab_]")].find(shown);
  globalThis.uiElementIsVisible = (element) => element.offsetParent !== null;
  globalThis.onUiUpdate = (f) => lists.update.push(f);
  globalThis.onAfterUiUpdate = (f) => lists.after.push(f);
  globalThis.onUiTabChange = (f) => lists.tab.push(f);
  globalThis.onOptionsChanged = (f) => lists.options.push(f);
  globalThis.updateInput = (element) => element.dispatchEvent(new Event("input", { bubbles: true }));

  let opening = false;
  let loaded = false;
  let available = false;
  globalThis.onUiLoaded = (f) => (loaded ? f() : lists.loaded.push(f));
  globalThis.onOptionsAvailable = (f) => (available ? f() : lists.available.push(f));

  const takeOptions = async () => {
    Object.assign(globalThis.opts, await (await fetch("sdapi/v1/options")).json());
    available = true;
    call(lists.available);
    call(lists.options);
  };

  let timer;
  let tab = null;
  const changed = (mutations) => {
    call(lists.update, mutations);
    clearTimeout(timer);
    timer = setTimeout(() => call(lists.after), 200);
    if (!opening && document.querySelector("#txt2img_prompt")) {
      opening = true;
      openAllPlaces().then(() => {
        loaded = true;
        call(lists.loaded);
        takeOptions();
      });
    }
    const now = globalThis.get_uiCurrentTab();
    if (now && now !== tab) { tab = now; call(lists.tab); }
  };
  const start = () => new MutationObserver(changed).observe(document.body, { childList: true, subtree: true });
  if (document.body) start(); else document.addEventListener("DOMContentLoaded", start);

  // Ctrl+Enter generates, or ends the running job first; Alt+Enter skips; Esc interrupts. All in the current tab.
  document.addEventListener("keydown", (event) => {
    const find = (name) => globalThis.get_uiCurrentTabContent()?.querySelector(`button[id$=_${name}]`);
    const running = () => { const button = find("interrupt"); return button && shown(button) ? button : null; };
    let button = null;
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) button = running() ?? find("generate");
    else if (event.key === "Enter" && event.altKey) button = running() && find("skip");
    else if (event.key === "Escape") button = running();
    if (!button) return;
    event.preventDefault();
    button.click();
  });
})();
