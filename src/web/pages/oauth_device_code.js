// Claims the request with the code that the person typed, then shows who requests what.
const form = document.querySelector("form");
const outcome = document.querySelector("#outcome");

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = form.querySelector("button");
  button.disabled = true;
  outcome.textContent = "";
  const userCode = new FormData(form).get("userCode");
  try {
    const response = await fetch("/oauth2/device/claim", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ userCode }),
    });
    const result = await response.json();
    if (response.ok) {
      location.replace("/device?request=" + encodeURIComponent(result.request));
      return;
    }
    if (response.status === 401) {
      location.replace("/oauth2/sign-in?user_code=" + encodeURIComponent(userCode));
      return;
    }
    outcome.textContent = result.error_description ?? "The code was not accepted.";
  } catch {
    outcome.textContent = "The server did not respond; try again.";
  }
  button.disabled = false;
});
