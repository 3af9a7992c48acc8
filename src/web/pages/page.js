// Removes the token from the address bar at once, so that no history or referrer contains it.
const token = new URLSearchParams(location.search).get("token") ?? "";
history.replaceState(null, "", location.pathname);
const form = document.querySelector("form");
const outcome = document.querySelector("#outcome");

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = form.querySelector("button");
  button.disabled = true;
  outcome.textContent = "";
  const fields = Object.fromEntries(new FormData(form));
  try {
    const response = await fetch(location.pathname, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(token ? { token, ...fields } : fields),
    });
    const result = await response.json();
    const hidden = form.querySelectorAll("[hidden]");
    if (result.code === "AUTHENTICATION_REQUIRED" && hidden.length) {
      // No one is signed in: show the fields that are needed instead of a session.
      for (const element of hidden) element.hidden = false;
      const field = form.querySelector("input[disabled]");
      field.disabled = button.disabled = false;
      field.focus();
      return;
    }
    const errors = result.meta?.errors ?? [];
    const why = errors.map((it) => (it.field === "newPassword" ? "The password " : "") + it.error);
    outcome.textContent = result.success || !why.length ? result.message : why.join("; ");
    button.disabled = result.success;
    if (result.success) form.hidden = true;
    if (result.data?.key) {
      const key = document.createElement("code");
      key.textContent = result.data.key;
      outcome.append(document.createElement("br"), key);
    }
    if (result.data?.callbackURL) location.assign(result.data.callbackURL);
  } catch {
    outcome.textContent = "The server did not respond; try again.";
    button.disabled = false;
  }
});
