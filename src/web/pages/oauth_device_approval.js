// Sends the person's answer. The device learns it when it asks.
const request = new URLSearchParams(location.search).get("request") ?? "";
const form = document.querySelector("form");
const outcome = document.querySelector("#outcome");

const showRole = () => {
  const chosen = form.querySelector("input[name=organizationId]:checked");
  const lacking = (chosen?.dataset.lacking ?? "").split(" ");
  for (const scope of form.querySelectorAll("[data-scope]")) {
    const isLacking = lacking.includes(scope.dataset.scope);
    scope.classList.toggle("lacking", isLacking);
    scope.querySelector("[data-reason]").hidden = !isLacking;
  }
};
form.addEventListener("change", showRole);
showRole();

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const answer = event.submitter?.value === "approve" ? "approve" : "deny";
  const buttons = form.querySelectorAll("button");
  for (const button of buttons) button.disabled = true;
  outcome.textContent = "";
  const fields = { request };
  const organizationId = new FormData(form).get("organizationId");
  if (answer === "approve" && organizationId) fields.organizationId = organizationId;
  try {
    const response = await fetch("/oauth2/device/" + answer, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(fields),
    });
    const result = await response.json();
    if (response.ok) {
      const isApproved = result.status === "approved";
      const lacking = "Your role in this organization permits nothing of this. ";
      const denied = (answer === "approve" ? lacking : "") + "Access was denied.";
      outcome.textContent = isApproved ? "Access was granted. Return to your device." : denied;
      form.hidden = true;
      return;
    }
    if (response.status === 401) {
      location.replace("/oauth2/sign-in?user_code=");
      return;
    }
    outcome.textContent = result.error_description ?? "The answer was not accepted.";
  } catch {
    outcome.textContent = "The server did not respond; try again.";
  }
  for (const button of buttons) button.disabled = false;
});
