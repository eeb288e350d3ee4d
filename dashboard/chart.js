// Draws a Plotly figure in place: what was drawn before is changed, so that a zoom stays.

function plotly(address) {
  globalThis.plotlyLoading ??= new Promise((done, failed) => {
    const script = document.createElement("script")
    script.onload = () => done(globalThis.Plotly)
    script.onerror = () => failed(new Error(`${address} cannot be loaded`))
    script.src = address
    document.head.append(script)
  })
  return globalThis.plotlyLoading
}

async function draw(place, told, setTriggerValue) {
  const Plotly = await plotly(told.library)
  if (!place.isConnected) return
  await Plotly.react(place, told.figure.data, told.figure.layout, told.config)
  if (place.watch) return
  let width = place.clientWidth // an observer also tells the width that it finds
  place.watch = new ResizeObserver(() => {
    if (!place.isConnected || place.clientWidth === width) return
    width = place.clientWidth
    Plotly.Plots.resize(place)
  })
  place.watch.observe(place)
  place.on("plotly_selected", event => {
    const points = (event?.points ?? []).map(point => point.customdata).filter(Number.isInteger)
    if (points.length) setTriggerValue("selected", points)
  })
}

export default function ({ data, parentElement, setTriggerValue }) {
  const told = JSON.parse(new TextDecoder().decode(data))
  const place = parentElement.querySelector(".chart")
  if (!told.figure) {
    plotly(told.library)
    return
  }
  place.style.height = `${told.figure.layout.height ?? 450}px`
  place.setAttribute("role", "img")
  place.setAttribute("aria-label", told.alt)
  draw(place, told, setTriggerValue)
  return () => {
    place.watch?.disconnect()
    if (place.watch) globalThis.Plotly.purge(place)
  }
}
