// The dashboard asks for new numbers while somebody can see it, and does not take the keyboard's place away.
"use strict";

(() => {
    const dashboard = document.getElementById("dashboard");
    if (!dashboard) return;
    let focused = null;

    dashboard.addEventListener("htmx:beforeRequest", (event) => {
        if (document.hidden) event.preventDefault();
    });
    document.addEventListener("visibilitychange", () => {
        if (!document.hidden) dashboard.dispatchEvent(new Event("refresh"));
    });

    const links = () => [...dashboard.querySelectorAll("a")];
    dashboard.addEventListener("htmx:beforeSwap", () => {
        focused = null;
        const position = links().indexOf(document.activeElement);
        if (position >= 0) focused = { position, address: document.activeElement.href };
    });
    dashboard.addEventListener("htmx:afterSwap", () => {
        if (!focused) return;
        const same = links().filter((link) => link.href === focused.address);
        const link = same.includes(links()[focused.position]) ? links()[focused.position] : same[0];
        if (link) link.focus({ preventScroll: true });
    });
    // What the server does not say for a while is marked as old.
    for (const name of ["htmx:sendError", "htmx:responseError", "htmx:timeout"]) {
        dashboard.addEventListener(name, () => dashboard.classList.add("db-old"));
    }
    dashboard.addEventListener("htmx:afterOnLoad", () => dashboard.classList.remove("db-old"));
})();
