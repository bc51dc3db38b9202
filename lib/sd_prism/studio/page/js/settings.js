// The settings page: search, and Reload UI.
(() => {
  document.addEventListener("input", (event) => {
    if (!event.target.closest?.("#settings_search")) return;
    const wanted = event.target.value.trim().toLowerCase();
    document.querySelector("#settings").classList.toggle("searching", wanted !== "");
    document.querySelectorAll("#settings [id^=setting_]").forEach((setting) => {
      const row = setting.closest(".setting-row") ?? setting;
      row.classList.toggle("not-found", !setting.textContent.toLowerCase().includes(wanted));
    });
  });

  globalThis.reloadUi = async () => {
    const veil = document.createElement("div");
    veil.className = "reloading";
    veil.setAttribute("role", "status");
    veil.textContent = "Reloading...";
    document.body.appendChild(veil);
    const answer = await fetch("internal/reload-ui", { method: "POST" });
    if (answer.ok) location.reload();
    else veil.textContent = `The page could not be made again: ${await answer.text()}`;
  };
  globalThis.restart_reload = globalThis.reloadUi;
})();
